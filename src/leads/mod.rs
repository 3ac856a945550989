//! Lists in: what people write about whom to call, read into leads.
//!
//! Invariant: a lead's number is a valid E.164 number that may be dialed; each row ends as one lead or one rejection.
//! Not here: who may add leads and when (`dialing::import`), HTTP, and when a lead may be called.

pub mod csv;
mod emergency;
mod header;
pub mod imports;
pub mod json;
pub mod message;
pub mod number;
mod record;
pub mod row;
pub mod store;
pub mod suppressed;

pub use crate::country::Country;
pub use csv::{CsvLeads, FileError};
pub use json::read_json;
pub use message::{RenderError, Template};
pub use number::{E164, Number, NumberError, NumberKind, NumberRules, mask};
pub use row::{Batch, Lead, Rejected};
pub use suppressed::{SuppressedCsv, SuppressedRow};
