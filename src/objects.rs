//! An object is read from a JSON object alone. serde's own readers of structs take an array as well, field by field in the order of
//! the code, which no document says and which a new field would change.
//!
//! Invariant: below [`Objects`] no array becomes a struct, at any depth, but for what is read twice (a tagged enum keeps what it
//! read of itself): such a shape reads itself in its place.
//! Not here: what a client is told (`api::pointer`).

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_path_to_error::{Path, Segment};

/// One segment of a JSON pointer, escaped (RFC 6901 §3).
#[must_use]
pub fn of_key(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The JSON pointer of where a reader has come to.
#[must_use]
pub fn pointer(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } | Segment::Enum { variant: key } => of_key(key),
        Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}

/// What a shape that reads itself says of a fault below its own place.
#[must_use]
pub fn fault_below(pointer: &str, text: &str) -> String {
    format!("at {pointer}: {text}")
}

/// Takes such a text apart again: the pointer, which is empty where the fault is in the place itself, and the rest.
#[must_use]
pub fn below(text: &str) -> (&str, &str) {
    let parts = text.strip_prefix("at ").filter(|rest| rest.starts_with('/')).and_then(|rest| rest.split_once(": "));
    parts.unwrap_or(("", text))
}

/// A deserializer, or anything that one hands on, below which objects are objects.
#[derive(Debug)]
pub struct Objects<T>(pub T);

/// A visitor: of a struct, or of anything else.
struct Reader<V> {
    visitor: V,
    of_struct: bool,
}

impl<V> Reader<V> {
    fn any(visitor: V) -> Self {
        Self { visitor, of_struct: false }
    }

    fn of_struct(visitor: V) -> Self {
        Self { visitor, of_struct: true }
    }
}

macro_rules! hand_on {
    ($($method:ident($($name:ident: $of:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $of,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Reader::any(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    hand_on! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Reader::of_struct(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! take {
    ($($method:ident($of:ty);)*) => {$(
        fn $method<E: Error>(self, value: $of) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Reader<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    take! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Objects(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Objects(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        if self.of_struct {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self.visitor));
        }
        self.visitor.visit_seq(Objects(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Objects(members))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_enum(Objects(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Objects<A> {
    type Error = A::Error;
    type Variant = Objects<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(name, variant)| (name, Objects(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Objects(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Reader::any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Reader::of_struct(visitor))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        #[serde(default)]
        a: Option<u8>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Either {
        Named { of: Inner },
        Around(Box<Inner>),
        Pair(u8, Inner),
        Word,
    }

    fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> Option<T> {
        let text = value.to_string();
        let from_text = T::deserialize(Objects(&mut serde_json::Deserializer::from_str(&text))).ok();
        let from_value = T::deserialize(Objects(value.clone())).ok();
        assert_eq!(from_text.is_some(), from_value.is_some(), "{text}");
        from_text
    }

    #[test]
    fn no_array_becomes_a_struct_and_all_else_is_read_as_ever() {
        assert_eq!(read(&json!({"a": 1})), Some(Inner { a: Some(1) }));
        assert_eq!(read::<Inner>(&json!([1])), None);
        assert_eq!(read::<Vec<Inner>>(&json!([{}, [1]])), None);
        assert_eq!(read(&json!([{}, {"a": null}])), Some(vec![Inner { a: None }, Inner { a: None }]));
        assert_eq!(read::<Option<(u8, Inner)>>(&json!([1, {}])), Some(Some((1, Inner { a: None }))));
        assert_eq!(read::<Option<(u8, Inner)>>(&json!([1, []])), None);
        assert_eq!(read(&json!({"named": {"of": {"a": 2}}})), Some(Either::Named { of: Inner { a: Some(2) } }));
        assert_eq!(read(&json!({"pair": [1, {}]})), Some(Either::Pair(1, Inner { a: None })));
        assert_eq!(read(&json!({"around": {}})), Some(Either::Around(Box::new(Inner { a: None }))));
        assert_eq!(read(&json!("word")), Some(Either::Word));
        for array in
            [json!({"named": [{}]}), json!({"named": {"of": []}}), json!({"around": []}), json!({"pair": [1, []]})]
        {
            assert_eq!(read::<Either>(&array), None, "{array}");
        }
        let any = json!({"x": [1, -2, 0.5, "t", null, true, {"y": []}]});
        assert_eq!(read::<Value>(&any), Some(any));
    }
}
