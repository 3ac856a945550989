//! The flows: the only place where two facts meet.
//!
//! Invariant: every flow may run twice, and may stop at any line, with the same result; no call is placed without a holder
//! at the gate and an intent in the ledger that this process owns.
//! Not here: how work arrives (`worker`, `webhooks`, `api`), and carrier words (`carriers`).

pub mod doubt;
pub mod finish;
pub mod gate;
pub mod hang_up;
pub mod live;
pub mod next;
pub mod send;
pub mod sweep;
pub mod translate;
