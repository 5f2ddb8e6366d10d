//! What an incarnation tells beside its lifecycle: endpoints and failed tasks. Kept here until the
//! loop comes for it, so that a module that tells a lot fills no inbox: the loop sees the latest.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Failure;
use crate::host::Report;
use crate::module::{EndpointInfo, EndpointType};

/// How many endpoints one incarnation may have, beside its functions.
const MAX_ENDPOINTS: usize = 64;
/// How many functions: as many as it may export.
const MAX_FUNCTIONS: usize = 256;
/// So many failed tasks are told one by one between two visits of the loop; the rest is counted.
const MAX_FAILURES: usize = 16;

/// One incarnation's news, between its threads and the loop.
#[derive(Default)]
pub(crate) struct Aside(Mutex<News>);

/// What is new since the loop last came.
#[derive(Default)]
struct News {
    endpoints: Vec<EndpointInfo>,
    failed_tasks: u64,
    /// The first of them.
    failures: Vec<Failure>,
    /// Every name that was ever told, to keep their number within bounds.
    names: Vec<String>,
    functions: Vec<String>,
    refused: bool,
    completed: bool,
    failed: bool,
}

/// What to do with a report.
pub(super) enum Kept {
    /// It is kept here, and the loop must be told to come.
    Tell,
    /// It is kept here, and the loop is coming already, or it was refused.
    Quiet,
    /// It is none of these and goes to the loop as it is.
    Not(Report),
}

impl Aside {
    /// Keeps a report that is news beside the lifecycle.
    pub(super) fn keep(&self, worker: &str, report: Report) -> Kept {
        let mut news = self.news();
        let coming = !news.endpoints.is_empty() || news.failed_tasks > 0;
        match report {
            Report::Endpoint(endpoint) => {
                if !news.has_room_for(&endpoint) {
                    if !std::mem::replace(&mut news.refused, true) {
                        log::warn!(
                            "{worker}: more than {MAX_ENDPOINTS} endpoints, or one is too long"
                        );
                    }
                    return Kept::Quiet;
                }
                news.endpoints.retain(|known| known.name != endpoint.name);
                news.endpoints.push(endpoint);
            }
            Report::TaskFailed(failure) => {
                news.failed_tasks += 1;
                if news.failures.len() < MAX_FAILURES {
                    news.failures.push(failure);
                }
            }
            // Once is enough: an incarnation that has failed or completed is on its way out.
            Report::Completed if std::mem::replace(&mut news.completed, true) => {
                return Kept::Quiet;
            }
            Report::Failed(_) if std::mem::replace(&mut news.failed, true) => return Kept::Quiet,
            Report::Launched
            | Report::Started { .. }
            | Report::Probed { .. }
            | Report::Informed(_)
            | Report::Completed
            | Report::Failed(_)
            | Report::Presumed(_)
            | Report::Gone(_) => return Kept::Not(report),
        }
        if coming { Kept::Quiet } else { Kept::Tell }
    }

    /// Takes what is new.
    pub(super) fn take(&self) -> (Vec<EndpointInfo>, u64, Vec<Failure>) {
        let mut news = self.news();
        let failed_tasks = std::mem::take(&mut news.failed_tasks);
        (std::mem::take(&mut news.endpoints), failed_tasks, std::mem::take(&mut news.failures))
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl News {
    fn has_room_for(&mut self, endpoint: &EndpointInfo) -> bool {
        if !endpoint.is_short() {
            return false;
        }
        let (names, most) = match endpoint.endpoint_type {
            EndpointType::Function => (&mut self.functions, MAX_FUNCTIONS),
            EndpointType::Http | EndpointType::Grpc | EndpointType::Tcp | EndpointType::Unix => {
                (&mut self.names, MAX_ENDPOINTS)
            }
        };
        let known = names.contains(&endpoint.name);
        if !known && names.len() < most {
            names.push(endpoint.name.clone());
            return true;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_endpoints_is_one_visit_with_the_latest_of_each() {
        let aside = Aside::default();
        let told = (0..10_000)
            .map(|n| {
                let endpoint = EndpointInfo::http(format!("e{}", n % 100), n);
                aside.keep("w", Report::Endpoint(endpoint))
            })
            .filter(|kept| matches!(kept, Kept::Tell))
            .count();
        assert_eq!(told, 1);
        let (endpoints, ..) = aside.take();
        assert_eq!(endpoints.len(), MAX_ENDPOINTS);
        assert!(endpoints.iter().all(|endpoint| endpoint.address.parse::<u32>().unwrap() >= 9_900));
        for n in 0..300 {
            let name = format!("f{n}");
            let endpoint = EndpointInfo::new(&name, EndpointType::Function, &name);
            aside.keep("w", Report::Endpoint(endpoint));
        }
        assert_eq!(aside.take().0.len(), MAX_FUNCTIONS, "functions have room of their own");
        let again = aside.keep("w", Report::Endpoint(EndpointInfo::http("e0", 1)));
        assert!(matches!(again, Kept::Tell));
        assert!(matches!(aside.keep("w", Report::Completed), Kept::Not(Report::Completed)));
        assert!(matches!(aside.keep("w", Report::Completed), Kept::Quiet));
    }
}
