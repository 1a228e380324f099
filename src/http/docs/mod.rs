//! The description of the API: `/openapi.json`, and `/docs`, a page that shows it.

mod document;
mod pages;
mod pattern;

pub(super) use self::pages::routes;
