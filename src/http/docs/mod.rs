//! The description of the API: `/openapi.json`, and `/docs` for people.

mod document;
mod pages;
mod pattern;

pub(super) use self::pages::routes;
