//! What the document says of the doors that are no part of the REST door: carriers' webhooks, media streams, operations.
//!
//! Invariant: each is answered by its listener (a test asks all of them). Not here: their handlers (`webhooks`, `voice::door`,
//! `api::admin`), which depend on nothing here.

use utoipa::openapi::{
    Components, Content, OpenApi, Required, Response,
    path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn},
    schema::{Object, Schema, Type},
    security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme},
};

use crate::carriers::{
    telnyx,
    twilio::{self, twiml},
};

/// Who knocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Twilio, with a form that its account's auth token signed.
    Twilio,
    /// Telnyx, with JSON that its key signed.
    Telnyx,
    /// A carrier or a browser, with a WebSocket, at `rollcall-calls`.
    Media,
    /// A balancer, at every listener.
    Health,
    /// Prometheus and people on call, at `ADMIN_ADDR`.
    Operations,
}

/// One kind of answer: its status, its content type (none where it has no body) and what it is.
type Answer = (&'static str, &'static str, &'static str);

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const NO_BODY: &str = "";
const AWAY: Answer = ("404", PROBLEM, "not-found: this is another listener");
const WRITTEN: &[Answer] = &[("204", NO_BODY, "It is written down.")];
const TOLD: &[Answer] = &[("200", twiml::CONTENT_TYPE, "What the call hears next (TwiML).")];
const READ: &[Answer] = &[("200", JSON, "As it is now.")];

/// Of each: who knocks, its path, what it is for, and what it answers where all is well.
const DOORS: &[(Door, &str, &str, &[Answer])] = &[
    (Door::Twilio, "/webhooks/twilio/status/{token}", "Status callback of a call", WRITTEN),
    (Door::Twilio, "/webhooks/twilio/answer/{token}", "What an answered call hears", TOLD),
    (Door::Twilio, "/webhooks/twilio/amd/{token}", "Who picked up, told beside the call", WRITTEN),
    (Door::Twilio, "/webhooks/twilio/resume/{token}", "What comes after what was said, or after a media stream", TOLD),
    (Door::Twilio, "/webhooks/twilio/stream/{token}", "Status callback of a media stream", WRITTEN),
    (Door::Twilio, "/webhooks/twilio/recording/{token}", "A recording is ready", WRITTEN),
    (Door::Twilio, "/webhooks/twilio/inbound/{token}", "A person rings a caller id: what the call hears", TOLD),
    (Door::Telnyx, "/webhooks/telnyx/{token}", "Every event of a call", &[("200", NO_BODY, "It is written down.")]),
    (
        Door::Telnyx,
        "/webhooks/telnyx/inbound/{token}",
        "A person rings a caller id",
        &[("200", NO_BODY, "It is taken.")],
    ),
    (Door::Media, "/media/twilio/{token}", "Twilio's media stream of one call", STREAM),
    (Door::Media, "/media/telnyx/{token}", "Telnyx' media stream of one call", STREAM),
    (Door::Media, "/media/session/{token}", "A session without a carrier (POST /v1/sessions)", STREAM),
    (Door::Health, "/healthz", "The process is there", READ),
    (Door::Health, "/readyz", "Its stores answer and it does not stop", READY),
    (Door::Operations, "/status", "The installation", READ),
    (Door::Operations, "/status/workers", "Workers and calls programs, and how many are wanted", READ),
    (Door::Operations, "/status/models", "What holds for the providers of speech and language", READ),
    (Door::Operations, "/dashboard", "System, workers, runs, calls, queue, resources", READ),
    (Door::Operations, "/metrics.json", "The installation's counts of calls", READ),
    (Door::Operations, "/metrics", "Figures of this process, for Prometheus", METRICS),
];
const STREAM: &[Answer] = &[
    ("101", NO_BODY, "A WebSocket with the carrier's own messages."),
    ("503", PROBLEM, "No room for one more conversation."),
];
const READY: &[Answer] = &[
    ("200", JSON, "Send requests here."),
    ("503", JSON, "Send none: it stops, or the stores in `away` do not answer."),
];
const METRICS: &[Answer] = &[("200", "text/plain; version=0.0.4; charset=utf-8", "Prometheus' text format.")];

/// Tells the document of all of them.
pub fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_with(Components::new);
    for (name, header, what) in [
        (
            "twilio",
            twilio::signature::SIGNATURE_HEADER,
            "HMAC-SHA1 over the URL and the form, with the account's auth token.",
        ),
        (
            "telnyx",
            telnyx::signature::SIGNATURE_HEADER,
            "Ed25519 over `telnyx-timestamp|body`, with the account's key.",
        ),
    ] {
        let key = ApiKeyValue::with_description(header, what);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
    for (door, path, what, answers) in DOORS {
        document.paths.add_path_operation(path, vec![door.method()], operation(*door, path, what, answers));
    }
}

fn operation(door: Door, path: &str, what: &str, answers: &[Answer]) -> Operation {
    let mut operation = OperationBuilder::new().tag(door.tag()).summary(Some(what)).operation_id(Some(name(path)));
    for (status, content, what) in answers.iter().chain(door.refusals()) {
        let mut response = Response::new(*what);
        if !content.is_empty() {
            response.content.insert((*content).to_owned(), Content::default().into());
        }
        operation = operation.response(*status, response);
    }
    if path.ends_with("{token}") {
        let text = Schema::from(Object::with_type(Type::String));
        let token = ParameterBuilder::new().name("token").parameter_in(ParameterIn::Path).required(Required::True);
        let token = token.description(Some("Ours: it names the business and the call.")).schema(Some(text));
        operation = operation.parameter(token);
    }
    if let Door::Twilio | Door::Telnyx = door {
        operation = operation.security(SecurityRequirement::new(door.tag(), [""; 0]));
    }
    operation.description(door.place()).build()
}

/// `GET /status/workers` is called `status_workers`.
fn name(path: &str) -> String {
    path.trim_start_matches('/').replace("/{token}", "").replace(['/', '.'], "_")
}

impl Door {
    fn method(self) -> HttpMethod {
        match self {
            Self::Twilio | Self::Telnyx => HttpMethod::Post,
            Self::Media | Self::Health | Self::Operations => HttpMethod::Get,
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
            Self::Media => "media",
            Self::Health => "health",
            Self::Operations => "operations",
        }
    }

    fn refusals(self) -> &'static [Answer] {
        match self {
            Self::Twilio | Self::Telnyx => &[
                ("403", PROBLEM, "forbidden: not signed by the carrier for this call, or a token that is not ours"),
                ("413", PROBLEM, "too-large: more than 64 KiB"),
                ("503", PROBLEM, "unavailable: nothing was written; send it again"),
            ],
            Self::Media => {
                &[("403", PROBLEM, "forbidden: a token that is not ours, was used, or is of a call that is over"), AWAY]
            }
            Self::Health => &[],
            Self::Operations => &[AWAY],
        }
    }

    /// Where it is, if not beside the document. In words: who takes `servers` at its word reaches for addresses that are not its to reach.
    fn place(self) -> Option<&'static str> {
        match self {
            Self::Media => Some("At CALLS_ADDR of rollcall-calls, from outside PUBLIC_MEDIA_URL; 404 here."),
            Self::Operations => Some("At ADMIN_ADDR of each program; 404 here."),
            Self::Twilio | Self::Telnyx | Self::Health => None,
        }
    }
}
