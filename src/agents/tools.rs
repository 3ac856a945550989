//! What an agent may do besides talking: as clients write it, and as a model is told of it.

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::objects::{Objects, fault_below, of_key, pointer};

/// Something that an agent may do.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tool {
    /// Say goodbye and hang up.
    EndCall {},
    /// Put the caller through to a person.
    Transfer {
        /// To whom, E.164.
        to: String,
        /// When, for the model.
        #[serde(default)]
        description: Option<String>,
    },
    /// Press keys, for menus.
    PressDigits {},
    /// Put the caller's number on the business's suppression list.
    SuppressNumber {},
    /// Agree on a time to be called again: the job is dialed then, or at the first time after it that the run's rules allow, and the
    /// model is told which. It is also told what time it is where the callee is.
    AgreeTime {},
    /// Write down what came out of the call.
    RecordOutcome {
        /// What is written down, 1 to 20 fields.
        fields: Vec<Field>,
    },
    /// Ask a service of the business, by POST of the arguments as JSON over HTTPS.
    Http {
        /// What the model calls it: letters, digits, `_` and `-`, at most 64.
        name: String,
        /// What it is for, for the model.
        description: String,
        /// https, a public address.
        url: String,
        /// The arguments, a JSON schema of type object.
        #[serde(default = "no_arguments")]
        #[schema(value_type = Object)]
        parameters: Value,
        /// 100 to 20,000.
        #[serde(default = "five_seconds")]
        time_limit_ms: u32,
    },
}

/// What each tool takes besides its `type`, as serde names variants where nothing is read twice: so a fault has its place.
#[derive(Deserialize)]
#[serde(remote = "Tool", rename_all = "snake_case", deny_unknown_fields)]
enum Given {
    EndCall {},
    Transfer {
        to: String,
        #[serde(default)]
        description: Option<String>,
    },
    PressDigits {},
    SuppressNumber {},
    AgreeTime {},
    RecordOutcome {
        fields: Vec<Field>,
    },
    Http {
        name: String,
        description: String,
        url: String,
        #[serde(default = "no_arguments")]
        parameters: Value,
        #[serde(default = "five_seconds")]
        time_limit_ms: u32,
    },
}

impl<'de> Deserialize<'de> for Tool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(deserializer)?;
        let kind = given.remove("type").ok_or_else(|| D::Error::missing_field("type"))?;
        let kind =
            String::deserialize(kind).map_err(|error| D::Error::custom(fault_below("/type", &error.to_string())))?;
        let named = Value::Object(Map::from_iter([(kind.clone(), Value::Object(given))]));
        let mut track = serde_path_to_error::Track::new();
        let read = Given::deserialize(serde_path_to_error::Deserializer::new(Objects(named), &mut track));
        read.map_err(|error| {
            let at = pointer(&track.path());
            let at = if at.is_empty() { "/type" } else { at.strip_prefix(&of_key(&kind)).unwrap_or_default() };
            if at.is_empty() { D::Error::custom(error) } else { D::Error::custom(fault_below(at, &error.to_string())) }
        })
    }
}

/// One field of an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Letters, digits and `_`, at most 64.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// What it means, for the model.
    #[serde(default)]
    pub description: Option<String>,
    /// True where it must be there.
    #[serde(default)]
    pub required: bool,
}

/// What a field of an outcome holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// A text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

impl FieldKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

fn no_arguments() -> Value {
    json!({"type": "object", "properties": {}})
}

fn five_seconds() -> u32 {
    5_000
}

impl Tool {
    /// What a model calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::EndCall {} => "end_call",
            Self::Transfer { .. } => "transfer_call",
            Self::PressDigits {} => "press_digits",
            Self::SuppressNumber {} => "suppress_number",
            Self::AgreeTime {} => "agree_time",
            Self::RecordOutcome { .. } => "record_outcome",
            Self::Http { name, .. } => name,
        }
    }

    /// What a model is told of it: name, description and the JSON schema of its arguments.
    #[must_use]
    pub fn told(&self) -> (&str, String, Value) {
        let text = |text: &str| text.to_owned();
        let (description, parameters) = match self {
            Self::EndCall {} => (text("End the call. Use it once everything is said."), no_arguments()),
            Self::Transfer { description, .. } => {
                let description = description.clone();
                (description.unwrap_or_else(|| text("Put the caller through to a person.")), no_arguments())
            }
            Self::PressDigits {} => {
                let digits = json!({"type": "string", "description": "0-9, * and #", "pattern": "^[0-9*#]{1,32}$"});
                (text("Press keys of the telephone, for a menu."), object(json!({"digits": digits}), &["digits"]))
            }
            Self::SuppressNumber {} => {
                (text("The caller does not want to be called again: never call this number."), no_arguments())
            }
            Self::AgreeTime {} => {
                let at =
                    json!({"type": "string", "description": "RFC 3339 with an offset, e.g. 2026-11-20T15:00:00+01:00"});
                (
                    text(
                        "Agree on the time at which the caller wants to be called again. The answer says when they will really be called, or \
                         why they will not be: tell them.",
                    ),
                    object(json!({"at": at}), &["at"]),
                )
            }
            Self::RecordOutcome { fields } => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|f| (f.name.clone(), json!({"type": f.kind.as_str(), "description": f.description})))
                    .collect();
                let required: Vec<&str> = fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
                (text("Write down what came out of the call."), object(Value::Object(properties), &required))
            }
            Self::Http { description, parameters, .. } => (description.clone(), parameters.clone()),
        };
        (self.name(), description, parameters)
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

/// The fields of an outcome as the model gave them, those that are known and fit.
///
/// # Errors
/// A sentence for the model: which field is missing or does not fit.
pub fn outcome(fields: &[Field], given: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut outcome = Map::new();
    for field in fields {
        match given.get(&field.name).filter(|value| !value.is_null()) {
            Some(value) if field.kind.fits(value) => {
                outcome.insert(field.name.clone(), value.clone());
            }
            Some(_) => return Err(format!("{} must be a {}.", field.name, field.kind.as_str())),
            None if field.required => return Err(format!("{} is missing.", field.name)),
            None => {}
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_holds_what_was_asked_for_and_nothing_else() {
        let field = |name: &str, kind, required| Field { name: name.into(), kind, description: None, required };
        let fields = [field("interested", FieldKind::Boolean, true), field("note", FieldKind::String, false)];
        let read = |given: Value| outcome(&fields, given.as_object().unwrap());
        let fits = read(json!({"interested": true, "note": null, "other": 1})).unwrap();
        assert_eq!(Value::Object(fits), json!({"interested": true}));
        assert_eq!(read(json!({"note": "x"})).unwrap_err(), "interested is missing.");
        assert_eq!(read(json!({"interested": "yes"})).unwrap_err(), "interested must be a boolean.");
    }

    #[test]
    fn a_tool_with_a_field_that_is_not_known_is_refused() {
        assert!(serde_json::from_value::<Tool>(json!({"type": "end_call"})).is_ok());
        assert!(serde_json::from_value::<Tool>(json!({"type": "end_call", "x": 1})).is_err());
        assert!(serde_json::from_value::<Tool>(json!({"type": "fly"})).is_err());
    }
}
