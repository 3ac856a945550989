//! The forms that Twilio posts, decoded strictly: the signature covers the decoded values.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The fields of one form in the order they came, repeated keys kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

/// Why a body is not a form that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A key or value is not UTF-8 once decoded.
    #[error("the form is not UTF-8")]
    NotUtf8,
    /// A field that says what the form is about comes twice, so that readers could disagree.
    #[error("{0} is given more than once")]
    Twice(&'static str),
}

/// Fields that say what a form is about. Twilio sends each once.
const IDENTITY: [&str; 3] = ["CallSid", "AccountSid", "CallStatus"];

impl Form {
    /// Decodes an `application/x-www-form-urlencoded` body (`+` is a space, empty pairs are skipped).
    ///
    /// # Errors
    /// When it is not UTF-8, or names its call, account or status twice.
    pub fn parse(raw: &[u8]) -> Result<Self, FormError> {
        let mut fields = Vec::new();
        for pair in raw.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |b| *b == b'=');
            let key = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            fields.push((key, value));
        }
        let form = Self(fields);
        match IDENTITY.into_iter().find(|key| form.values(key).nth(1).is_some()) {
            Some(key) => Err(FormError::Twice(key)),
            None => Ok(form),
        }
    }

    /// Every pair.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The first value of `key` that is not empty: Twilio writes "unknown" as an empty value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values(key).find(|value| !value.is_empty())
    }

    fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |pair| pair.0 == key).map(|pair| pair.1.as_str())
    }
}

fn decode(raw: &[u8]) -> Result<String, FormError> {
    let spaced = match raw.contains(&b'+') {
        true => Cow::Owned(raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect()),
        false => Cow::Borrowed(raw),
    };
    percent_decode(&spaced).decode_utf8().map(Cow::into_owned).map_err(|_| FormError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(raw: &[u8]) -> Vec<(String, String)> {
        Form::parse(raw).expect("a form").pairs().to_vec()
    }

    #[test]
    fn a_form_is_decoded_with_repeated_keys_and_empty_values_kept() {
        let expected = [("a", "1 2"), ("a", "+"), ("b", ""), ("c", ""), ("é", "=&")];
        let expected = expected.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pairs(b"a=1+2&a=%2B&&b=&c&%C3%A9=%3D%26"), expected);
        assert_eq!(pairs(b""), []);
        assert_eq!(pairs(b"a=%zz%4"), [("a".to_owned(), "%zz%4".to_owned())]);
    }

    #[test]
    fn a_form_that_readers_could_disagree_about_is_refused() {
        assert_eq!(Form::parse(b"a=%ff"), Err(FormError::NotUtf8));
        assert_eq!(Form::parse(b"\xff=1"), Err(FormError::NotUtf8));
        assert_eq!(Form::parse(b"CallSid=CA1&x=1&CallSid=CA1"), Err(FormError::Twice("CallSid")));
        assert_eq!(Form::parse(b"AccountSid=&Account%53id=AC2"), Err(FormError::Twice("AccountSid")));
        assert_eq!(Form::parse(b"CallStatus=busy&CallStatus=failed"), Err(FormError::Twice("CallStatus")));
    }
}
