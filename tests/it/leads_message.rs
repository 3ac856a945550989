//! Templates from strangers: whatever is written, it is refused or it can be said.

use proptest::prelude::*;
use rollcall::leads::{Template, message::RenderError};
use serde_json::{Map, Value};

fn piece() -> impl Strategy<Value = String> {
    let words =
        ["{{", "}}", "{%", "{#", "{", "}", " a ", "b_1", "true", "not", "in", "1", "|", "upper", "default", "('x')"];
    prop_oneof![
        proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        "\\PC{0,4}",
        "\\{\\{ ?[a-zA-Z_]{1,6} ?(\\| ?default\\([\"'][^{}]{0,5}[\"']\\))? ?(\\| ?(upper|lower|trim|capitalize) ?)?\\}\\}",
        "[\r\n\t\u{0}'\"\\\\]",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_template_that_is_accepted_is_said_for_every_lead_that_has_its_variables(
        text in proptest::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat()),
        value in prop_oneof!["\\PC{0,20}".prop_map(Value::from), any::<i64>().prop_map(Value::from), any::<bool>().prop_map(Value::from)],
    ) {
        if let Ok(template) = Template::parse(&text) {
            let lead: Map<_, _> = template.variables().into_iter().map(|name| (name, value.clone())).collect();
            prop_assert!(template.render(&lead).is_ok(), "{:?}", template.render(&lead));
            match template.render(&Map::new()) {
                Ok(_) => prop_assert!(template.missing(&Map::new()).is_empty()),
                Err(error) => prop_assert_eq!(error, RenderError::Missing(template.missing(&Map::new()))),
            }
        }
    }
}
