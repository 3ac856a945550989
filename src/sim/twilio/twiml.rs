//! Reading TwiML: the verbs that the sandbox can act out.
use std::collections::BTreeMap;

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

/// One verb of a `<Response>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Text that is spoken.
    Say(String),
    /// URL of a sound that is played.
    Play(String),
    /// Seconds of silence.
    Pause(u64),
    /// The end of the call.
    Hangup,
    /// The call is refused before it is answered.
    Reject,
    /// A media stream in both directions.
    Connect(Connect),
    /// URL of the document that goes on.
    Redirect(String),
    /// A number that the call is passed on to.
    Dial(String),
    /// Keys that are pressed for the far end.
    Digits(String),
    /// A verb that the sandbox does not know how to act out.
    Other(String),
}

/// What `<Connect><Stream>` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Connect {
    /// Where the stream goes; empty when there is no `<Stream>`.
    pub(crate) url: String,
    /// The `<Parameter>` elements.
    pub(crate) parameters: BTreeMap<String, String>,
    /// The document that goes on after the stream, in place of the next verb.
    pub(crate) action: Option<String>,
}

/// Why a document cannot be used, with Twilio's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) code: u32,
    pub(crate) why: String,
}

/// Reads a document. Not XML is 12100; a root that is not `<Response>` is 12102.
pub(crate) fn read(document: &str) -> Result<Vec<Verb>, Unusable> {
    let mut reader = Reader::from_str(document);
    let mut verbs = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut text = String::new();
    let mut had_root = false;
    loop {
        match reader.read_event().map_err(broken)? {
            Event::Start(tag) => {
                let name = name(&tag)?;
                enter(&path, &name, &mut had_root)?;
                if path.len() == 1 {
                    verbs.push(verb(&name, &tag)?);
                    text.clear();
                } else {
                    inner(verbs.last_mut(), &name, &tag)?;
                }
                path.push(name);
            }
            Event::Empty(tag) => {
                let name = name(&tag)?;
                enter(&path, &name, &mut had_root)?;
                if path.len() == 1 {
                    verbs.push(verb(&name, &tag)?);
                } else {
                    inner(verbs.last_mut(), &name, &tag)?;
                }
            }
            Event::Text(part) if path.len() > 1 => text.push_str(&part.xml10_content()),
            Event::CData(part) if path.len() > 1 => text.push_str(&part.xml10_content()),
            Event::GeneralRef(part) if path.len() > 1 => match part.resolve_char_ref().map_err(broken)? {
                Some(character) => text.push(character),
                None => {
                    let entity = part.xml10_content();
                    text.push_str(resolve_predefined_entity(&entity).ok_or_else(|| broken("unknown entity"))?);
                }
            },
            Event::End(_) => {
                if path.len() == 2
                    && let Some(Verb::Say(words) | Verb::Play(words) | Verb::Redirect(words) | Verb::Dial(words)) =
                        verbs.last_mut()
                {
                    text.trim().clone_into(words);
                }
                path.pop();
            }
            Event::Eof if had_root && path.is_empty() => return Ok(verbs),
            Event::Eof => return Err(broken("the document ends too early")),
            _ => {}
        }
    }
}

fn enter(path: &[String], name: &str, had_root: &mut bool) -> Result<(), Unusable> {
    if !path.is_empty() {
        return Ok(());
    }
    if name != "Response" || *had_root {
        return Err(Unusable { code: 12102, why: format!("<{name}> is not one <Response>") });
    }
    *had_root = true;
    Ok(())
}

fn name(tag: &BytesStart<'_>) -> Result<String, Unusable> {
    let name: &str = tag.name().into_inner();
    Ok(name.to_owned())
}

fn verb(name: &str, tag: &BytesStart<'_>) -> Result<Verb, Unusable> {
    Ok(match name {
        "Say" => Verb::Say(String::new()),
        "Play" => attribute(tag, "digits")?.map_or_else(|| Verb::Play(String::new()), Verb::Digits),
        "Hangup" => Verb::Hangup,
        "Reject" => Verb::Reject,
        "Redirect" => Verb::Redirect(String::new()),
        "Dial" => Verb::Dial(String::new()),
        "Connect" => Verb::Connect(Connect { action: attribute(tag, "action")?, ..Connect::default() }),
        "Pause" => {
            let length = attribute(tag, "length")?.map(|value| value.parse().map_err(|_| broken("Pause length")));
            Verb::Pause(length.transpose()?.unwrap_or(1))
        }
        other => Verb::Other(other.to_owned()),
    })
}

/// An element within a verb: what a stream is made of.
fn inner(verb: Option<&mut Verb>, name: &str, tag: &BytesStart<'_>) -> Result<(), Unusable> {
    let Some(Verb::Connect(connect)) = verb else { return Ok(()) };
    match name {
        "Stream" => connect.url = attribute(tag, "url")?.ok_or_else(|| broken("a <Stream> without url"))?,
        "Parameter" => {
            let missing = || broken("a <Parameter> needs name and value");
            let pair = (attribute(tag, "name")?.ok_or_else(missing)?, attribute(tag, "value")?.ok_or_else(missing)?);
            connect.parameters.insert(pair.0, pair.1);
        }
        _ => {}
    }
    Ok(())
}

fn attribute(tag: &BytesStart<'_>, wanted: &str) -> Result<Option<String>, Unusable> {
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(broken)?;
        let key: &str = attribute.key.into_inner();
        if key == wanted {
            return Ok(Some(attribute.normalized_value(XmlVersion::Implicit1_0).map_err(broken)?.into_owned()));
        }
    }
    Ok(None)
}

fn broken(why: impl ToString) -> Unusable {
    Unusable { code: 12100, why: why.to_string() }
}
