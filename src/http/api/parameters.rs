//! Parameters that a path does not know.

use axum::extract::Query;
use axum::http::Uri;
use strsim::damerau_levenshtein;

use super::query::shown;
use crate::http::route::Route;
use crate::http::wire::Problem;

/// How many letters may differ between a name and the one that was probably meant.
const TYPOS_MAX: usize = 2;

impl Route {
    /// The parameters of a route of the API, and of the dashboard's events. Other routes take whatever comes.
    fn parameters(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Lease | Self::LeaseOrWait | Self::LeaseOnce | Self::LeaseOnceOrWait => {
                Some(&["count", "holder", "label", "lease", "wait"])
            }
            Self::Release => Some(&["cooldown"]),
            Self::Renew => Some(&["lease"]),
            Self::TakeBack => Some(&["holder"]),
            Self::Create
            | Self::ReleaseMany
            | Self::Show
            | Self::Delete
            | Self::KeepAlive
            | Self::KeepAliveMany
            | Self::PutPool
            | Self::ShowPool
            | Self::Stats => Some(&[]),
            Self::ListPools => Some(&["cursor", "limit"]),
            Self::Events => Some(&["pool"]),
            Self::DeletePool => Some(&["keys"]),
            Self::ListKeys => Some(&["cursor", "label", "limit", "state"]),
            Self::Metrics
            | Self::Health
            | Self::Ready
            | Self::OpenApi
            | Self::Docs
            | Self::Dashboard
            | Self::Root
            | Self::Unknown => None,
        }
    }
}

/// Refuses a request with a parameter that its route does not know, or that comes twice: it is probably a mistake, and
/// the client would not get what it asked for. O(length of the query).
///
/// # Errors
///
/// [`Problem::InvalidParameter`], which names the parameter and the nearest one.
pub(in crate::http) fn check_parameters(uri: &Uri, route: Route) -> Result<(), Problem> {
    if uri.query().is_none_or(str::is_empty) {
        return Ok(());
    }
    let Some(known) = route.parameters() else { return Ok(()) };
    // The handlers refuse what cannot be read.
    let Ok(Query(parameters)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Ok(());
    };
    for (n, (name, _)) in parameters.iter().enumerate() {
        let detail = if !known.contains(&&**name) {
            format!("There is no parameter {} here{}", shown(name), hint(name, known))
        } else if parameters[..n].iter().any(|(before, _)| before == name) {
            format!("{name} is given twice; give it once.")
        } else {
            continue;
        };
        return Err(Problem::InvalidParameter { detail });
    }
    Ok(())
}

/// What was probably meant, or what there is.
fn hint(name: &str, known: &[&str]) -> String {
    let distance = |known: &&&str| damerau_levenshtein(name, known);
    match known.iter().min_by_key(distance) {
        None => "; this path has none.".to_owned(),
        Some(nearest) if distance(&nearest) <= TYPOS_MAX => format!("; did you mean {nearest}?"),
        Some(_) => format!("; use {}.", known.join(", ")),
    }
}
