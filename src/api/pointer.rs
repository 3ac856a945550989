//! From what serde says to the pointer, the code and the sentence that a client reads.
//!
//! Not here: reading requests (`api::body`).

use std::{collections::HashSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_path_to_error::Path;

use crate::objects::{self, below, of_key};

/// Pointer, code and detail of serde's complaint `text` at `path`.
#[must_use]
pub fn at_fault(path: &Path, text: &str) -> (String, &'static str, String) {
    let (below, text) = below(text);
    let mut pointer = format!("{}{below}", objects::pointer(path));
    // serde_json ends its text with the place in the bytes, which the pointer says better.
    let text = text.rsplit_once(" at line ").map_or(text, |(before, _)| before);
    let quoted = text.split('`').nth(1).unwrap_or_default();
    if text.starts_with("missing field") {
        pointer.push_str(&of_key(quoted));
        return (pointer, "required", "is required".into());
    }
    if text.starts_with("unknown field") {
        // The path names the field already where the reader knew its key.
        if !pointer.ends_with(&of_key(quoted)) {
            pointer.push_str(&of_key(quoted));
        }
        return (pointer, "unknown_field", text.into());
    }
    if is_of_a_time(text) {
        let detail = "is no time: write one that there is with its offset from UTC, such as 2026-12-24T09:00:00Z or 2026-12-24T10:00:00+01:00";
        return (pointer, "invalid_value", detail.into());
    }
    let code = if text.starts_with("invalid type") {
        "wrong_type"
    } else if text.starts_with("duplicate field") {
        "duplicate_field"
    } else {
        "invalid_value"
    };
    // Our own name of a shape says nothing to a client.
    let shape = [", expected struct ", ", expected a map"].iter().find_map(|named| text.split_once(named));
    let detail = shape.map_or_else(|| text.into(), |(before, _)| format!("{before}, expected an object"));
    (pointer, code, detail)
}

/// True for what chrono says of a text that is no time: it names neither the text nor the form.
fn is_of_a_time(text: &str) -> bool {
    let said = [
        "input is out of range",
        "no possible date and time matching input",
        "input is not enough for unique date and time",
        "input contains invalid characters",
        "premature end of input",
        "trailing input",
    ];
    said.contains(&text)
}

/// Pointer of the first text or key with a NUL in it.
#[must_use]
pub fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| nul_in(item).map(|rest| format!("/{i}{rest}")))
        }
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            let rest = if key.contains('\0') { Some(String::new()) } else { nul_in(member) };
            rest.map(|rest| format!("{}{rest}", of_key(key)))
        }),
        _ => None,
    }
}

/// Pointer of the first member of an object that is there twice, where the JSON is such that it can be looked through to there.
#[must_use]
pub fn twice_in(json: &[u8]) -> Option<String> {
    let mut found = None;
    // What is no JSON is said by the reader proper.
    let _ = Once { found: &mut found }.deserialize(&mut serde_json::Deserializer::from_slice(json));
    found
}

/// Looks for a member that is there twice, and keeps nothing else of what it reads.
struct Once<'a> {
    found: &'a mut Option<String>,
}

impl Once<'_> {
    /// Where what was found below this place stands, seen from above it.
    fn below<E>(&mut self, at: impl FnOnce() -> String, read: Result<(), E>) -> Result<(), E> {
        if let (Err(_), Some(pointer)) = (&read, self.found.as_mut()) {
            pointer.insert_str(0, &at());
        }
        read
    }
}

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                *self.found = Some(of_key(&key));
                return Err(A::Error::custom("a member is there twice"));
            }
            let read = map.next_value_seed(Once { found: self.found });
            self.below(|| of_key(&key), read)?;
            seen.insert(key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        for i in 0_usize.. {
            let read = items.next_element_seed(Once { found: self.found });
            let more = matches!(read, Ok(Some(())));
            self.below(|| format!("/{i}"), read.map(|_| ()))?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use crate::api::body::{Change, parse};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lead {
        #[serde(rename = "to")]
        _to: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[serde(rename = "leads", default)]
        _leads: Vec<Lead>,
        #[serde(default)]
        limit: Change<u32>,
        #[serde(default)]
        zone: Change<Option<String>>,
    }

    fn fault(json: &str) -> (String, String) {
        let body = parse::<Shape>(json.as_bytes()).unwrap_err().body();
        let error = &body["errors"][0];
        (error["pointer"].as_str().unwrap().to_owned(), error["code"].as_str().unwrap().to_owned())
    }

    #[test]
    fn every_fault_is_pointed_at() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let deep = format!("{{\"leads\":{deep}}}");
        for (json, pointer, code) in [
            (r#"{"leads":[{"to":"a"},{"to":7}]}"#, "/leads/1/to", "wrong_type"),
            (r#"{"leads":[{}]}"#, "/leads/0/to", "required"),
            (r#"{"leads":[{"to":"a","x":1}]}"#, "/leads/0/x", "unknown_field"),
            (r#"{"a/b~c":1}"#, "/a~1b~0c", "unknown_field"),
            (r#"{"leads":[{"to":"a"},{"to":"b","to":"c"}]}"#, "/leads/1/to", "duplicate_field"),
            (r#"{"limit":1,"a/b":[[{"x":1}],{"y":{},"y":1}]}"#, "/a~1b/1/y", "duplicate_field"),
            (r#"{"limit":1,"limit":2}"#, "/limit", "duplicate_field"),
            (r#"{"limit":null}"#, "/limit", "wrong_type"),
            (r#"{"limit":-1}"#, "/limit", "invalid_value"),
            (r#"{"limit":1e400}"#, "/limit", "out_of_range"),
            (r#"{"leads":[{"to":"a\u0000"}]}"#, "/leads/0/to", "nul"),
            (r#"{"limit":1} x"#, "", "invalid_json"),
            (r#"{"limit":1"#, "", "invalid_json"),
            ("", "", "invalid_json"),
            ("\u{feff}{}", "", "invalid_json"),
            (r#"{"zone":"\ud800"}"#, "/zone", "invalid_json"),
        ] {
            assert_eq!(fault(json), (pointer.to_owned(), code.to_owned()), "{json}");
        }
        assert!(matches!(fault(&deep).1.as_str(), "too_deep" | "wrong_type"));
    }

    #[test]
    fn null_is_told_from_absent_and_an_escaped_backslash_is_no_nul() {
        let shape = parse::<Shape>(br#"{"zone":null}"#).unwrap();
        assert_eq!((shape.limit, shape.zone), (Change::Keep, Change::To(None)));
        assert!(parse::<Shape>(br#"{"zone":"\\u0000"}"#).is_ok());
    }
}
