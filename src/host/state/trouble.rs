//! What keeps a state directory from being kept, for as long as it does, and who is told of it: the
//! master goes on, and a next one may not know what this one runs.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// What may be in trouble by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The directory at its place.
    Place,
    /// What is written down in it of workers.
    Records,
}

/// What is wrong with a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateTrouble {
    pub(crate) message: String,
    pub(crate) since: SystemTime,
}

/// What has become of a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StateNews {
    /// Something is wrong with it.
    Degraded { message: String },
    /// All is well again.
    Recovered,
}

type Listener = Box<dyn Fn(StateNews) + Send + Sync>;

/// What is wrong now.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Now>);

#[derive(Default)]
struct Now {
    place: Option<StateTrouble>,
    records: Option<StateTrouble>,
    listener: Option<Listener>,
}

impl Troubles {
    /// A part is in trouble, or, with `None`, is not.
    pub(super) fn set(&self, part: Part, message: Option<String>) {
        let mut now = self.now();
        let known = now.of(part);
        match (known.is_some(), message) {
            (false, Some(message)) => {
                let since = SystemTime::now();
                *known = Some(StateTrouble { message: message.clone(), since });
                now.tell(StateNews::Degraded { message });
            }
            (true, None) => {
                *known = None;
                if now.first().is_none() {
                    now.tell(StateNews::Recovered);
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// What matters most of it.
    pub(super) fn first(&self) -> Option<StateTrouble> {
        self.now().first().cloned()
    }

    /// Has `listener` told, from what is wrong already on. It must wait for nothing.
    pub(super) fn listen(&self, listener: Listener) {
        let mut now = self.now();
        for trouble in [&now.place, &now.records].into_iter().flatten() {
            listener(StateNews::Degraded { message: trouble.message.clone() });
        }
        now.listener = Some(listener);
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // Every change is a single assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn of(&mut self, part: Part) -> &mut Option<StateTrouble> {
        match part {
            Part::Place => &mut self.place,
            Part::Records => &mut self.records,
        }
    }

    fn first(&self) -> Option<&StateTrouble> {
        self.place.as_ref().or(self.records.as_ref())
    }

    fn tell(&self, news: StateNews) {
        if let Some(listener) = &self.listener {
            listener(news);
        }
    }
}

impl fmt::Debug for Troubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Troubles").field(&self.first()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn s19_each_trouble_is_told_once_and_its_end_when_nothing_is_wrong_any_more() {
        let troubles = Troubles::default();
        let message = |trouble: Option<StateTrouble>| trouble.map(|trouble| trouble.message);
        troubles.set(Part::Records, None);
        troubles.set(Part::Records, Some("early".into()));
        let told = Arc::<Mutex<Vec<StateNews>>>::default();
        let tell = Arc::clone(&told);
        troubles.listen(Box::new(move |news| tell.lock().unwrap().push(news)));
        let told = || std::mem::take(&mut *told.lock().unwrap());
        let degraded = |message: &str| StateNews::Degraded { message: message.to_owned() };
        assert_eq!(told(), [degraded("early")]);
        troubles.set(Part::Records, Some("again".into()));
        assert_eq!((told(), message(troubles.first())), (vec![], Some("early".to_owned())));
        troubles.set(Part::Place, Some("gone".into()));
        assert_eq!(
            (told(), message(troubles.first())),
            (vec![degraded("gone")], Some("gone".into()))
        );
        troubles.set(Part::Place, None);
        assert_eq!((told(), message(troubles.first())), (vec![], Some("early".to_owned())));
        troubles.set(Part::Records, None);
        troubles.set(Part::Records, None);
        assert_eq!((told(), message(troubles.first())), (vec![StateNews::Recovered], None));
    }
}
