//! The dial protocol as a model: every order of steps and faults of a small installation, tried by stateright.
//!
//! The protocol holds in every world below; each variant that lacks one of its guards is found broken, which shows that the
//! guard is needed and that the model would see it missing.

mod around;
mod forget;
mod guards;
mod holds;
mod protocol;
mod state;
mod steps;
mod variants;
