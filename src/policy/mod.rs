//! Whether a number may ring now, and if not, when: rules without a store.
//!
//! Owns: calling windows, retry rules, what pauses a run, the zones that a number may be in.
//! Invariant: pure. The same rules, zones and moment give the same answer, in whatever process; the moment is always given.
//! Not here: what a claim checks of a single number (suppression, limits, calls under way): the claiming transaction does.

pub mod guards;
pub mod hours;
pub mod openings;
pub mod retry;
pub mod window;
pub mod zones;

pub use guards::{AbandonGuard, Breaker, Budget};
pub use openings::{Calendars, Openings};
pub use retry::Retry;
pub use window::{Span, Window};
