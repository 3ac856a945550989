//! Lists in pages: `?limit=` and `?cursor=` in, `data` and `next_cursor` out.
//!
//! Invariant: a cursor is the name of its list and the key of the last row shown, so that rows added or removed meanwhile neither
//! repeat nor hide others, and no other list takes it.
//! Not here: which rows (each fact's own query asks for [`Page::fetch`] rows after [`Page::after`]).

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, FieldError};

/// Rows on a page where the client says nothing.
const DEFAULT_LIMIT: i64 = 50;
/// Most rows on a page.
const MAX_LIMIT: i64 = 500;

/// The query of a list without filters. A list with filters names these two fields itself and calls [`Page::read`].
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Rows on the page, 1 to 500; 50 where absent.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The page of `list` that is asked for.
    ///
    /// # Errors
    /// 422 where the limit is out of range or the cursor is not one of this list.
    pub fn page<K: FromStr>(&self, list: &'static str) -> Result<Page<K>, ApiError> {
        Page::read(list, self.limit, self.cursor.as_deref())
    }
}

/// A page that is asked for: `limit` rows after the one with the key `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<K> {
    /// The list's name in its cursors.
    list: &'static str,
    /// Rows on the page.
    pub limit: i64,
    /// Key of the last row of the page before.
    pub after: Option<K>,
}

impl<K: FromStr> Page<K> {
    /// Reads `?limit=` and `?cursor=` of `list`.
    ///
    /// # Errors
    /// 422 where the limit is out of range or the cursor is not one of this list.
    pub fn read(list: &'static str, limit: Option<i64>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            errors.push(FieldError::new("?limit", "out_of_range", format!("must be from 1 to {MAX_LIMIT}")));
        }
        let after = cursor.map(|cursor| key_in(list, cursor));
        if let Some(None) = after {
            errors.push(FieldError::new(
                "?cursor",
                "invalid_cursor",
                "must be the next_cursor of an earlier page of this list",
            ));
        }
        if errors.is_empty() {
            Ok(Self { list, limit, after: after.flatten() })
        } else {
            Err(ApiError::validation(errors))
        }
    }

    /// Rows to ask the store for: one more than is shown tells whether there is a next page.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        self.limit + 1
    }
}

/// What stands between the list's name and the key.
const MARK: char = '/';

/// The key in a cursor of `list`. Postgres keeps no NUL in text, so that none was ever a key.
fn key_in<K: FromStr>(list: &str, cursor: &str) -> Option<K> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let key = text.strip_prefix(list)?.strip_prefix(MARK)?;
    if key.contains('\0') { None } else { key.parse().ok() }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// What to send as `?cursor=` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// The page of `rows`, which were fetched with [`Page::fetch`]; `key` is what the rows are ordered by.
    pub fn new<R, K: std::fmt::Display>(
        mut rows: Vec<R>,
        page: &Page<K>,
        key: impl Fn(&R) -> K,
        show: impl Fn(R) -> T,
    ) -> Self {
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let cursor = |last| URL_SAFE_NO_PAD.encode(format!("{}{MARK}{}", page.list, key(last)));
        let next_cursor = rows.last().filter(|_| more).map(cursor);
        Self { data: rows.into_iter().map(show).collect(), next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_of_one_page_is_the_start_of_the_next() {
        let page = Page::<u32>::read("numbers", Some(2), None).unwrap();
        let list = List::new(vec![1, 2, 3], &page, |n| *n, |n| n);
        assert_eq!(list.data, [1, 2]);
        let next = Page::<u32>::read("numbers", None, list.next_cursor.as_deref()).unwrap();
        assert_eq!(next, Page { list: "numbers", limit: 50, after: Some(2) });
        assert_eq!(List::new(vec![3], &next, |n| *n, |n| n).next_cursor, None);
        for other in ["number", "numbers/", "jobs"] {
            assert!(Page::<u32>::read(other, None, list.next_cursor.as_deref()).is_err(), "{other}");
        }
    }

    #[test]
    fn a_limit_out_of_range_and_a_broken_cursor_are_both_named() {
        for limit in [0, -1, 501, i64::MAX] {
            let error = Page::<u32>::read("numbers", Some(limit), Some("%%%")).unwrap_err().body();
            assert_eq!(error["errors"][0]["pointer"], "?limit");
            assert_eq!(error["errors"][1]["pointer"], "?cursor");
        }
        for text in ["text", "1", "numbers/", "numbers/x"] {
            assert!(Page::<u32>::read("numbers", None, Some(&URL_SAFE_NO_PAD.encode(text))).is_err(), "{text}");
        }
        assert!(Page::<String>::read("names", None, Some(&URL_SAFE_NO_PAD.encode("names/\0"))).is_err());
    }
}
