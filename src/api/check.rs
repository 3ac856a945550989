//! Collects what does not fit in a request, so that a client hears of all of it at once.
//!
//! Not here: the rules (`businesses::rules` and the like), and shapes (`api::body`).

use crate::error::{ApiError, FieldError};

/// What did not fit so far.
#[derive(Debug, Default)]
pub struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value, or None and a note of what is wrong at `pointer`.
    pub fn field<T>(&mut self, pointer: &str, checked: Result<T, (&'static str, String)>) -> Option<T> {
        checked.map_err(|(code, detail)| self.errors.push(FieldError::new(pointer, code, detail))).ok()
    }

    /// Notes what is wrong with a list, or with one of its items.
    pub fn list(&mut self, pointer: &str, checked: Result<(), (Option<usize>, (&'static str, String))>) {
        if let Err((at, (code, detail))) = checked {
            let pointer = at.map_or_else(|| pointer.to_owned(), |at| format!("{pointer}/{at}"));
            self.errors.push(FieldError::new(pointer, code, detail));
        }
    }

    /// Nothing, or 422 with all that is wrong.
    ///
    /// # Errors
    /// 422 where anything is wrong.
    pub fn done(self) -> Result<(), ApiError> {
        if self.errors.is_empty() { Ok(()) } else { Err(ApiError::validation(self.errors)) }
    }
}
