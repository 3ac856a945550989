//! The flows: the only place where two facts meet.
//!
//! Invariant: every flow may run twice, and may stop at any line, with the same result; locks are taken in one order:
//! business, run, attempts, jobs, tally; no call is placed without a holder at the gate and an intent in the ledger that
//! this process owns.
//! Not here: how work arrives (`worker`, `webhooks`, `api`), SQL of one fact alone, and carrier words (`carriers`).

pub mod again;
pub mod agents;
pub mod agreed;
pub mod answer;
pub mod ask;
pub mod asked;
pub mod by_person;
pub mod call;
pub mod cancel;
pub mod change;
pub mod cleanup;
pub mod conversation;
pub mod create;
pub mod doubt;
mod due;
pub mod finish;
pub mod gate;
pub mod hang_up;
pub mod holders;
pub mod import;
pub mod inbound;
mod intake;
pub mod live;
pub mod machine;
pub mod moves;
pub mod next;
pub mod numbers;
pub mod overview;
pub mod preview;
pub mod put_through;
pub mod recordings;
mod refusal;
pub mod retention;
pub mod room;
pub mod send;
pub mod startup;
pub mod suppress;
pub mod sweep;
pub mod translate;
pub mod trial;
pub mod untaken;
pub mod why;
pub mod windows;
