//! What a request says: its JSON body, its query and the ids in its path, each refused with a pointer to what is wrong.
//!
//! Invariant: what a handler gets holds no NUL (Postgres keeps none in text) no field that it did not name, and no
//! array where the document has an object.
//! Not here: what values mean (each fact checks its own), CSV uploads, who asks.

use std::marker::PhantomData;

use axum::{
    body::{Body as HttpBody, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use futures::StreamExt;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value};

use crate::{
    api::pointer::{at_fault, nul_in, twice_in},
    error::{ApiError, FieldError, Slug},
    objects::Objects,
};

/// Most bytes of a body, where a route allows no more.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// A JSON body of at most `LIMIT` bytes. Every `T` (and what is in it) is `deny_unknown_fields`.
#[derive(Debug, Clone)]
pub struct Body<T, const LIMIT: usize = BODY_LIMIT>(pub T);

impl<T: DeserializeOwned, S: Send + Sync, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(Slug::UnsupportedMediaType, "Send the body as application/json."));
        }
        let bytes = read(request.into_body(), LIMIT).await?;
        parse(&bytes).map(Self)
    }
}

/// No body, or an empty JSON object: what an action without options takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBody;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = read(request.into_body(), BODY_LIMIT).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        if !json {
            return Err(ApiError::new(Slug::UnsupportedMediaType, "Send no body, or {} as application/json."));
        }
        parse::<Empty>(&bytes).map(|Empty {}| Self)
    }
}

/// A JSON body, or none: then every field is at its default.
#[derive(Debug, Clone, Default)]
pub struct MaybeBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = read(request.into_body(), BODY_LIMIT).await?;
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if !json {
            return Err(ApiError::new(Slug::UnsupportedMediaType, "Send no body, or one as application/json."));
        }
        parse(&bytes).map(Self)
    }
}

/// The query string. `T` is `deny_unknown_fields`.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        if let Some((name, _)) = url::form_urlencoded::parse(query.as_bytes()).find(|(_, value)| value.contains('\0')) {
            return Err(ApiError::validation(vec![nul(format!("?{name}"))]));
        }
        let deserializer = serde_html_form::Deserializer::from_bytes(query.as_bytes());
        serde_path_to_error::deserialize(deserializer).map(Self).map_err(|error| {
            let text = error.inner().to_string();
            let (pointer, code, detail) = at_fault(error.path(), &text);
            ApiError::validation(vec![FieldError::new(pointer.replacen('/', "?", 1), code, detail)])
        })
    }
}

/// What the path names. Text that is no id is a thing that does not exist: 404.
#[derive(Debug, Clone, Copy)]
pub struct Ids<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Ids<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(ApiError::new(Slug::NotFound, "There is no such thing at this path.")),
        }
    }
}

/// A field of a PATCH: absent keeps what is there. `Change<Option<T>>` may be null, which clears; `Change<T>` may not.
/// Needs `#[serde(default)]` on the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T> {
    /// The field was absent.
    Keep,
    /// The field was given.
    To(T),
}

#[expect(clippy::derivable_impls, reason = "a derive would ask for T: Default")]
impl<T> Default for Change<T> {
    fn default() -> Self {
        Self::Keep
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::To)
    }
}

impl<T> Change<T> {
    /// Puts the new value into `place` if there is one; true where there is.
    pub fn apply(self, place: &mut T) -> bool {
        match self {
            Self::Keep => false,
            Self::To(value) => {
                *place = value;
                true
            }
        }
    }

    /// The new value, if there is one.
    pub fn given(&self) -> Option<&T> {
        match self {
            Self::Keep => None,
            Self::To(value) => Some(value),
        }
    }

    /// The new value itself, if there is one.
    pub fn into_given(self) -> Option<T> {
        match self {
            Self::Keep => None,
            Self::To(value) => Some(value),
        }
    }
}

/// An object in a PATCH, of which, too, what is absent stays. Needs `#[serde(default)]` on the field.
#[derive(Debug, Clone)]
pub struct Part<T> {
    given: Map<String, Value>,
    of: PhantomData<T>,
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { given: Map::new(), of: PhantomData }
    }
}

impl<'de, T> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(|given| Self { given, of: PhantomData })
    }
}

impl<T: Serialize + DeserializeOwned> Part<T> {
    /// Puts what is given in its places; `at` is the object's own pointer.
    ///
    /// # Errors
    /// 422 with the pointer of what does not fit.
    pub fn apply(self, at: &str, place: &mut T) -> Result<(), ApiError> {
        let mut whole = serde_json::to_value(&*place).map_err(anyhow::Error::from)?;
        if let Value::Object(members) = &mut whole {
            members.extend(self.given);
        }
        *place = serde_path_to_error::deserialize(Objects(whole)).map_err(|error| {
            let (pointer, code, detail) = at_fault(error.path(), &error.inner().to_string());
            ApiError::validation(vec![FieldError::new(format!("{at}{pointer}"), code, detail)])
        })?;
        Ok(())
    }
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 413 where it is longer; 422 where the client stopped in the middle.
pub async fn read(body: HttpBody, limit: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(error = %error, "a body broke off");
            ApiError::new(Slug::Validation, "The body broke off before its end.")
        })?;
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}

/// 413 with the limit in bytes.
#[must_use]
pub fn too_large(limit: usize) -> ApiError {
    ApiError::new(Slug::TooLarge, format!("The body may have at most {limit} bytes.")).with("limit_bytes", limit)
}

/// Reads JSON into `T`.
///
/// # Errors
/// 422 with the pointer of what does not fit.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    refuse_nul(bytes)?;
    if let Some(pointer) = twice_in(bytes) {
        return Err(ApiError::validation(vec![FieldError::new(
            pointer,
            "duplicate_field",
            "is there twice; keep one",
        )]));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(Objects(&mut json)).map_err(|error| {
        let text = error.inner().to_string();
        let (pointer, code, detail) = match error.inner().classify() {
            serde_json::error::Category::Data => at_fault(error.path(), &text),
            _ if text.starts_with("recursion limit") => (String::new(), "too_deep", "is nested too deeply".into()),
            // serde_json calls good JSON broken where a number is too large, or a word is wanted and none comes.
            _ if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() => {
                let (pointer, ..) = at_fault(error.path(), &text);
                if text.starts_with("number out of range") {
                    (pointer, "out_of_range", "is a number too large to read".into())
                } else if text.starts_with("expected value") {
                    (pointer, "wrong_type", "must be one of the words that this field takes".into())
                } else {
                    (pointer, "invalid_json", format!("is not JSON: {text}"))
                }
            }
            _ => (String::new(), "invalid_json", format!("is not JSON: {text}")),
        };
        ApiError::validation(vec![FieldError::new(pointer, code, detail)])
    })?;
    json.end().map_err(|error| {
        ApiError::validation(vec![FieldError::new("", "invalid_json", format!("has more behind its end: {error}"))])
    })?;
    Ok(value)
}

/// A NUL can only stand in JSON as an escape; only bodies that have one are looked at twice.
fn refuse_nul(bytes: &[u8]) -> Result<(), ApiError> {
    const ESCAPE: &[u8] = b"\\u0000";
    if !bytes.windows(ESCAPE.len()).any(|window| window == ESCAPE) {
        return Ok(());
    }
    // What is no JSON is said by the reader proper.
    let found = serde_json::from_slice::<Value>(bytes).ok().and_then(|value| nul_in(&value));
    found.map_or(Ok(()), |path| Err(ApiError::validation(vec![nul(path)])))
}

fn nul(pointer: String) -> FieldError {
    FieldError::new(pointer, "nul", "holds a NUL character (U+0000), which cannot be kept")
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(media) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
