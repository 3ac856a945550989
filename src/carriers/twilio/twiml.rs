//! TwiML: what Twilio is told to do with a call that was answered.
//!
//! Source: Twilio, "TwiML for Programmable Voice", `<Say>` and `<Hangup>`; at most 64 kB (error 11750).
//! Texts come from customers. The writer escapes them, so that no text adds a verb.

use std::borrow::Cow;

use quick_xml::Writer;
use quick_xml::escape::escape;
use quick_xml::events::{BytesDecl, BytesText, Event};
use url::Url;

use crate::carriers::Speech;

/// Media type to answer with.
pub const CONTENT_TYPE: &str = "text/xml";
/// Largest document that Twilio takes, bytes. Twilio says kB; the smaller reading is safe.
const MAX_BYTES: usize = 64_000;
/// Room for everything but the text: the elements, and two attributes whose every character is escaped.
const FRAME_BYTES: usize = 2_000;
/// Longest attribute, characters: names of languages and voices are far shorter.
const MAX_ATTRIBUTE: usize = 100;

/// Says `text` and hangs up. `language` is a BCP 47 tag, `voice` a name of Twilio's or `None` for its default.
/// Characters that XML cannot hold are dropped; a text too long for one document is cut.
#[must_use]
pub fn say_and_hang_up(text: &str, language: &str, voice: Option<&str>) -> String {
    document(|writer| {
        say(writer, text, language, voice)?;
        writer.create_element("Hangup").write_empty().map(drop)
    })
}

/// The same, but in place of the hang-up `url` is asked what comes next: so it is known that all was said.
#[must_use]
pub fn say_and_ask(text: &str, language: &str, voice: Option<&str>, url: &str) -> String {
    document(|writer| {
        say(writer, text, language, voice)?;
        redirect(writer, url)
    })
}

/// Is silent for so many seconds, and then asks `url` again.
#[must_use]
pub fn wait_and_ask(secs: u32, url: &str) -> String {
    document(|writer| {
        writer.create_element("Pause").with_attribute(("length", secs.to_string().as_str())).write_empty()?;
        redirect(writer, url)
    })
}

fn say(writer: &mut Writer<Vec<u8>>, text: &str, language: &str, voice: Option<&str>) -> std::io::Result<()> {
    let text = fitting(text);
    let language = attribute(language);
    let mut say = writer.create_element("Say").with_attribute(("language", language.as_str()));
    if let Some(voice) = voice {
        say = say.with_attribute(("voice", attribute(voice).as_str()));
    }
    say.write_text_content(BytesText::new(&text)).map(drop)
}

fn redirect(writer: &mut Writer<Vec<u8>>, url: &str) -> std::io::Result<()> {
    let redirect = writer.create_element("Redirect").with_attribute(("method", "POST"));
    redirect.write_text_content(BytesText::new(url)).map(drop)
}

/// Connects the call to a media stream, both ways, and asks `resume` what to do when the stream was closed by us. Parameters
/// come back in the stream's `start` (Twilio: name and value together below 500 characters).
#[must_use]
pub fn stream(url: &Url, parameters: &[(&str, &str)], resume: &str) -> String {
    document(|writer| {
        writer.create_element("Connect").write_inner_content(|writer| {
            let stream = writer.create_element("Stream").with_attribute(("url", url.as_str()));
            stream.write_inner_content(|writer| {
                for (name, value) in parameters {
                    let parameter = writer.create_element("Parameter").with_attribute(("name", *name));
                    parameter.with_attribute(("value", attribute(value).as_str())).write_empty()?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        redirect(writer, resume)
    })
}

/// Puts the call through to `number`, and hangs up when that is over.
#[must_use]
pub fn dial_and_hang_up(number: &str, caller_id: &str) -> String {
    say_dial_and_hang_up(None, number, caller_id)
}

/// The same after some words, where there are any.
#[must_use]
pub fn say_dial_and_hang_up(speech: Option<&Speech>, number: &str, caller_id: &str) -> String {
    document(|writer| {
        if let Some(Speech { text, language, voice }) = speech {
            say(writer, text, language, voice.as_deref())?;
        }
        let dial = writer.create_element("Dial").with_attribute(("callerId", attribute(caller_id).as_str()));
        dial.write_text_content(BytesText::new(number))?.create_element("Hangup").write_empty()?;
        Ok(())
    })
}

/// Refuses a call that came in before it is answered: the caller hears that the line is busy.
#[must_use]
pub fn reject() -> String {
    document(|writer| writer.create_element("Reject").with_attribute(("reason", "busy")).write_empty().map(drop))
}

/// Hangs up at once: nothing is heard.
#[must_use]
pub fn hang_up() -> String {
    document(|writer| writer.create_element("Hangup").write_empty().map(drop))
}

fn document(content: impl FnOnce(&mut Writer<Vec<u8>>) -> std::io::Result<()>) -> String {
    let mut writer = Writer::new(Vec::new());
    let written = writer
        .write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))
        .and_then(|()| writer.create_element("Response").write_inner_content(content).map(drop));
    // Writing into memory does not fail. If it did, an empty document is refused by Twilio, which ends the call.
    match written {
        Ok(()) => String::from_utf8(writer.into_inner()).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// As much of `text` as fits once it is escaped, without what XML 1.0 cannot hold.
fn fitting(text: &str) -> String {
    let mut room = MAX_BYTES - FRAME_BYTES;
    text.chars()
        .filter(|c| is_xml(*c))
        .take_while(|c| {
            let mut buffer = [0; 4];
            let escaped: Cow<'_, str> = escape(&*c.encode_utf8(&mut buffer));
            let fits = escaped.len() <= room;
            room = room.saturating_sub(escaped.len());
            fits
        })
        .collect()
}

fn attribute(text: &str) -> String {
    text.chars().filter(|c| is_xml(*c)).take(MAX_ATTRIBUTE).collect()
}

/// Whether XML 1.0 can hold `c` (production 2, `Char`).
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quick_xml::Reader;

    /// The document as its tags, and the text between them.
    fn shape(document: &str) -> (Vec<String>, String) {
        let (mut tags, mut text) = (Vec::new(), String::new());
        let mut reader = Reader::from_str(document);
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Start(tag) => tags.push(tag.name().as_ref().to_owned()),
                Event::Empty(tag) => tags.push(format!("{}/", tag.name().as_ref())),
                Event::End(tag) => tags.push(format!("/{}", tag.name().as_ref())),
                Event::Text(part) => text.push_str(&part),
                Event::GeneralRef(reference) => {
                    let entity = format!("&{};", &*reference);
                    text.push_str(&quick_xml::escape::unescape(&entity).expect("a known entity"));
                }
                Event::Decl(_) => {}
                Event::Eof => return (tags, text),
                other => panic!("{other:?}"),
            }
        }
    }

    const SAID: [&str; 5] = ["Response", "Say", "/Say", "Hangup/", "/Response"];

    #[test]
    fn a_message_is_said_and_the_call_ends() {
        assert_eq!(
            say_and_hang_up("Fish & <chips>", "en-GB", Some("Polly.Amy")),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Say language=\"en-GB\" voice=\"Polly.Amy\">\
             Fish &amp; &lt;chips&gt;</Say><Hangup/></Response>"
        );
        assert_eq!(hang_up(), "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Hangup/></Response>");
    }

    #[test]
    fn a_stream_is_connected_and_then_asked_about() {
        let stream =
            stream(&"wss://a.example/media/twilio/x".parse().unwrap(), &[("attempt", "1")], "https://a.example/resume");
        assert_eq!(
            stream,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Connect><Stream url=\"wss://a.example/media/twilio/x\">\
             <Parameter name=\"attempt\" value=\"1\"/></Stream></Connect><Redirect method=\"POST\">https://a.example/resume\
             </Redirect></Response>"
        );
    }

    #[test]
    fn a_call_is_put_through_after_words_or_without_and_refused_unanswered() {
        let speech = Speech { text: "One moment".into(), language: "en-US".into(), voice: None };
        let (number, ours) = ("+12125550188", "+12055550100");
        let said = say_dial_and_hang_up(Some(&speech), number, ours);
        assert_eq!(shape(&said).0, ["Response", "Say", "/Say", "Dial", "/Dial", "Hangup/", "/Response"]);
        assert!(said.contains("<Dial callerId=\"+12055550100\">+12125550188</Dial>"), "{said}");
        assert_eq!(shape(&dial_and_hang_up(number, ours)).0, ["Response", "Dial", "/Dial", "Hangup/", "/Response"]);
        assert!(reject().ends_with("<Response><Reject reason=\"busy\"/></Response>"));
    }

    #[test]
    fn what_follows_a_message_or_a_pause_is_asked_for() {
        let url = "https://a.example/resume/x?after=message";
        let said = say_and_ask("Hi & bye", "en-US", None, url);
        assert_eq!(shape(&said).0, ["Response", "Say", "/Say", "Redirect", "/Redirect", "/Response"]);
        assert_eq!(shape(&said).1, format!("Hi & bye{url}"));
        let waits = wait_and_ask(2, url);
        assert!(waits.contains("<Pause length=\"2\"/>"), "{waits}");
        assert_eq!(shape(&waits).0, ["Response", "Pause/", "Redirect", "/Redirect", "/Response"]);
    }

    #[test]
    fn the_longest_hostile_text_still_fits() {
        let hostile = "\"".repeat(100_000);
        let document = say_and_hang_up(&hostile, &hostile, Some(&hostile));
        assert!(document.len() <= MAX_BYTES, "{}", document.len());
        assert_eq!(shape(&document).0, SAID);
    }

    proptest! {
        #[test]
        fn no_text_changes_the_tree(
            text in "(\\PC|[\\x00-\\x20<>&\"'\\]\\u{FFFE}]|</Say>|<Dial>|&#0;|]]>|<!--){0,40}",
            language in ".{0,120}",
            voice in proptest::option::of("[<>&\"'a]{0,9}")
        ) {
            let (tags, said) = shape(&say_and_hang_up(&text, &language, voice.as_deref()));
            prop_assert_eq!(tags, SAID);
            let expected: String = text.chars().filter(|c| is_xml(*c)).collect();
            prop_assert_eq!(said.replace("\r\n", "\n"), expected.replace("\r\n", "\n"));
        }
    }
}
