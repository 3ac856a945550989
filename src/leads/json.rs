//! Leads written as JSON.
//!
//! Invariant: a field that is unknown or of another type refuses the whole request; what is wrong with a lead's content
//! rejects that lead alone, as it would in a file.

use serde_json::{Map, Value};

use super::{
    number::NumberRules,
    row::{Batch, Draft, Fault, bad_priority, name_fault},
};
use crate::error::FieldError;

/// The most faults of shape that one answer lists.
const FAULTS_MAX: usize = 100;

/// Reads a JSON list of leads (API, "run POST", `leads`). The line of a rejection is the lead's place, from 1.
/// `pointer` is where the list stands in the body, e.g. `/leads`, or empty where the body is the list.
///
/// # Errors
/// The fields whose shape does not fit, at most 100 of them. Then no lead may be stored.
pub fn read_json(leads: &[Value], pointer: &str, rules: &NumberRules) -> Result<Batch, Vec<FieldError>> {
    let mut batch = Batch::default();
    let mut faults = Vec::new();
    for (index, lead) in leads.iter().enumerate() {
        let mut shape = Shape { pointer: format!("{pointer}/{index}"), faults: Vec::new() };
        let row = shape.read(lead);
        faults.append(&mut shape.faults);
        if faults.len() >= FAULTS_MAX {
            faults.truncate(FAULTS_MAX);
            break;
        }
        // After the first fault of shape nothing will be stored: only further faults of shape are worth the work.
        if faults.is_empty() {
            batch.push(index as u64 + 1, row.and_then(|draft| draft.into_lead(rules)));
        }
    }
    if faults.is_empty() { Ok(batch) } else { Err(faults) }
}

/// Reads the shape of one lead and collects what does not fit.
struct Shape {
    pointer: String,
    faults: Vec<FieldError>,
}

impl Shape {
    fn read<'a>(&mut self, lead: &'a Value) -> Result<Draft<'a>, Fault> {
        let mut draft = Draft { to_column: "to", ..Draft::default() };
        let Value::Object(fields) = lead else {
            self.fault(&[], "wrong_type", "A lead is an object such as {\"to\": \"+12125550137\"}.");
            return Ok(draft);
        };
        let mut priority = Ok(0);
        for (name, value) in fields {
            match name.as_str() {
                "to" => draft.to = self.text(name, value).unwrap_or_default(),
                "external_id" => draft.external_id = self.text(name, value),
                "time_zone" => draft.time_zone = self.text(name, value),
                "priority" => priority = self.integer(name, value),
                "variables" => draft.variables = self.variables(value),
                "not_before" => draft.not_before = self.text(name, value),
                "not_after" => draft.not_after = self.text(name, value),
                _ => self.fault(
                    &[name],
                    "unknown_field",
                    "A lead has no such field. What a message says about it goes into variables.",
                ),
            }
        }
        draft.priority = priority?;
        Ok(draft)
    }

    fn text<'a>(&mut self, name: &str, value: &'a Value) -> Option<&'a str> {
        match value {
            Value::String(text) => Some(text),
            Value::Null => None,
            _ => {
                self.fault(&[name], "wrong_type", "Write this as text, in quotation marks.");
                None
            }
        }
    }

    /// A whole number; one too large for 64 bits is a fault of content, like any other that is out of range.
    fn integer(&mut self, name: &str, value: &Value) -> Result<i64, Fault> {
        match value {
            Value::Null => Ok(0),
            Value::Number(number) => number.as_i64().ok_or_else(|| bad_priority(&number.to_string())),
            _ => {
                self.fault(&[name], "wrong_type", "Write this as a whole number, without quotation marks.");
                Ok(0)
            }
        }
    }

    fn variables(&mut self, value: &Value) -> Map<String, Value> {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Map::new(),
            _ => {
                self.fault(&["variables"], "wrong_type", "Variables are an object such as {\"first_name\": \"Ada\"}.");
                return Map::new();
            }
        };
        for (name, value) in fields {
            if let Some(detail) = name_fault(name) {
                self.fault(&["variables", name], "invalid_name", detail);
            }
            if value.is_object() || value.is_array() {
                let detail = "A variable is text, a number, true, false or null.";
                self.fault(&["variables", name], "wrong_type", detail);
            }
        }
        // A copy of what will be refused is not worth its memory.
        if self.faults.is_empty() { fields.clone() } else { Map::new() }
    }

    fn fault(&mut self, path: &[&str], code: &'static str, detail: impl Into<String>) {
        let mut pointer = self.pointer.clone();
        for name in path {
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        self.faults.push(FieldError::new(pointer, code, detail));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(leads: Value) -> Result<Batch, Vec<FieldError>> {
        let rules = NumberRules::new("US".parse().unwrap());
        read_json(leads.as_array().unwrap(), "/leads", &rules)
    }

    fn pointers(leads: Value) -> Vec<(String, String)> {
        read(leads).unwrap_err().into_iter().map(|e| (e.pointer, e.code.into_owned())).collect()
    }

    #[test]
    fn a_lead_is_read_with_every_field() {
        let lead = json!([{"to": "(212) 555-0137 x9", "external_id": "crm-1", "variables": {"n": 1, "s": "ä", "z": null},
            "time_zone": "America/New_York", "priority": -1000, "not_before": "2030-03-31T01:30:00+05:30",
            "not_after": "2030-03-30T20:00:00.5Z"}, {"to": "+12125550137", "not_before": null, "not_after": null}]);
        let batch = read(lead).unwrap();
        let (line, lead) = &batch.leads[0];
        assert_eq!((*line, lead.to.as_str(), lead.priority), (1, "+12125550137", -1000));
        assert_eq!(lead.time_zone, Some(chrono_tz::America::New_York));
        let times = (lead.not_before.unwrap().to_rfc3339(), lead.not_after.unwrap().to_rfc3339());
        assert_eq!(times, ("2030-03-30T20:00:00+00:00".into(), "2030-03-30T20:00:00.500+00:00".into()));
        assert_eq!((batch.leads[1].1.not_before, batch.leads[1].1.not_after), (None, None));
        assert_eq!(Value::from(lead.variables.clone()), json!({"n": 1, "s": "ä", "z": null, "extension": "9"}));
    }

    #[test]
    fn what_does_not_fit_the_shape_is_named_by_its_pointer() {
        let faults = pointers(json!([
            {"to": "+12125550137"},
            {"to": 12_125_550_137_u64, "foo": 1, "a/b~c": 1},
            [],
            {"to": "+12125550137", "not_before": 1_900_000_000, "priority": "high"},
            {"to": "+12125550137", "variables": {"deep": {"er": 1}, "": 1}},
            {"to": "+12125550137", "variables": [1]},
        ]));
        let expected = [
            ("/leads/1/a~1b~0c", "unknown_field"),
            ("/leads/1/foo", "unknown_field"),
            ("/leads/1/to", "wrong_type"),
            ("/leads/2", "wrong_type"),
            ("/leads/3/not_before", "wrong_type"),
            ("/leads/3/priority", "wrong_type"),
            ("/leads/4/variables/", "invalid_name"),
            ("/leads/4/variables/deep", "wrong_type"),
            ("/leads/5/variables", "wrong_type"),
        ];
        let mut faults: Vec<_> = faults.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
        faults.sort_unstable();
        assert_eq!(faults, expected);
    }

    #[test]
    fn what_is_wrong_with_one_leads_content_rejects_that_lead_alone() {
        let good = "+12125550137";
        let batch = read(json!([
            {"to": good}, {}, {"to": null}, {"to": "1".repeat(1_000_000)}, {"to": good, "time_zone": "Mars/Base"},
            {"to": good, "priority": 1001}, {"to": good, "priority": 0.5}, {"to": good, "priority": 1e300},
            {"to": good, "external_id": "x".repeat(256)}, {"to": good, "external_id": "a\u{0}b"},
            {"to": good, "variables": {"v": "\u{0}"}}, {"to": good, "variables": {"v": "x".repeat(20_000)}},
            {"to": good, "external_id": "ü".repeat(255), "variables": {"v": "x".repeat(16_000)}},
            {"to": good, "not_before": "2030-05-31T09:00:00"}, {"to": good, "not_after": "2030-05-31 09:00"},
            {"to": good, "not_before": "tomorrow"}, {"to": good, "not_after": "2030-02-30T09:00:00Z"},
            {"to": good, "not_before": "2030-05-31T09:00:00Z", "not_after": "2030-05-31T11:00:00+02:00"},
        ]))
        .unwrap();
        let codes: Vec<_> = batch.rejected.iter().map(|r| (r.line, r.code.as_ref())).collect();
        let expected = [
            (2, "missing_number"),
            (3, "missing_number"),
            (4, "too_long"),
            (5, "unknown_time_zone"),
            (6, "invalid_priority"),
            (7, "invalid_priority"),
            (8, "invalid_priority"),
            (9, "too_long"),
            (10, "nul_character"),
            (11, "nul_character"),
            (12, "variables_too_large"),
            (14, "no_offset"),
            (15, "no_offset"),
            (16, "invalid_time"),
            (17, "invalid_time"),
            (18, "empty_period"),
        ];
        assert_eq!(codes, expected);
        assert_eq!(batch.leads.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 13]);
        assert!(batch.rejected.iter().all(|r| r.value.as_ref().is_none_or(|v| v.chars().count() <= 64)));
        assert!(batch.rejected.iter().all(|r| !r.value.as_deref().unwrap_or_default().contains('\0')));
    }

    #[test]
    fn a_list_of_nothing_but_faults_is_answered_with_a_hundred_of_them() {
        assert_eq!(read(json!(vec![1; 5000])).unwrap_err().len(), 100);
    }
}
