//! What the loop does, in words for whoever finds that it takes long.

use super::super::Input;
use crate::core::event::Effect;
use crate::worker::WorkerId;

/// Taking in what was heard.
pub(in crate::runtime) fn of_input(input: &Input) -> (&'static str, Option<&WorkerId>) {
    match input {
        Input::Command { .. } => ("a command", None),
        Input::Update { worker, .. } => ("another configuration of", Some(worker)),
        Input::Tell(_) => ("telling events", None),
        Input::Log { .. } => ("news of a log", None),
        Input::Add { worker, .. } => ("adding", Some(worker)),
        Input::End { left, .. } => ("ending what is left of", Some(&left.worker)),
        Input::GiveUp { worker } => ("giving up", Some(worker)),
        Input::Report { worker, .. } => ("a report of", Some(worker)),
        Input::Aside { worker, .. } => ("news of", Some(worker)),
        Input::Subscribe(_) => ("a new reader of events", None),
        Input::Fault(_) => ("a fault", None),
    }
}

/// Doing what was decided.
pub(in crate::runtime) fn of_effect(effect: &Effect) -> (&'static str, Option<&WorkerId>) {
    match effect {
        Effect::Launch { worker, .. } => ("launching", Some(worker)),
        Effect::Start { worker, .. } => ("starting", Some(worker)),
        Effect::Probe { worker, .. } => ("probing", Some(worker)),
        Effect::Ask { worker, .. } => ("stopping", Some(worker)),
        Effect::Force { worker, .. } => ("killing", Some(worker)),
        Effect::Abandon { worker, .. } => ("abandoning", Some(worker)),
        Effect::LetGo { worker, .. } => ("letting go of", Some(worker)),
        Effect::Transition(transition) => ("telling the state of", Some(&transition.worker)),
        Effect::Health { worker, .. } => ("telling the health of", Some(worker)),
        Effect::Reply { .. } => ("answering a command", None),
        Effect::Changed { worker } => ("showing", Some(worker)),
        Effect::Forgotten { worker } => ("forgetting", Some(worker)),
        Effect::AllDown => ("ending", None),
    }
}
