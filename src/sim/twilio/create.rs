//! `POST …/Calls.json`: reading and answering a create.
use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use super::{
    Refusal, authenticate,
    dial::{read, token_of, unknown_parameters},
    rows,
};
use crate::sim::{
    Shared,
    clock::Stamp,
    create::{self, Admitted, Manner, Refused},
    dial::Trouble,
    wire::Cut,
    world::LogEntry,
};

const MANNER: Manner = Manner {
    refuse: |trouble| Refusal::of(trouble).into(),
    taken: |call| (StatusCode::CREATED, Json(rows::fresh(call))).into_response(),
    status: StatusCode::CREATED,
};

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, response: Box::new(refusal.into_response()) }
    }
}

impl Refusal {
    fn of(trouble: Trouble) -> Self {
        match trouble {
            Trouble::TooMany(secs) => Self::too_many_requests(secs),
            Trouble::ServerError => Self::server_error(),
            Trouble::Unavailable => Self::unavailable(),
            Trouble::Credentials => Self::credentials(),
            Trouble::OnDemand(status, code) => Self::new(status, code, format!("Refused on demand with {code}")),
            Trouble::Unreachable => Self::parameter(21214, "'To' phone number cannot be reached"),
            Trouble::Blocked => Self::parameter(21216, "Account not allowed to call the number"),
            Trouble::Full => Self::concurrency(),
            Trouble::QueueFull => Self::queue_full(),
        }
    }
}

pub(crate) async fn create(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = authenticate(&shared, &account, &headers) {
        return refusal.into_response();
    }
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let entry = LogEntry {
        at_ms: Stamp::now().unix_ms(),
        account: account.clone(),
        to: value("To").unwrap_or_default(),
        from: value("From").unwrap_or_default(),
        token: value("StatusCallback").as_deref().and_then(token_of),
        verdict: "accepted".to_owned(),
        code: None,
        sid: None,
        ignored: unknown_parameters(&form),
    };
    create::create(shared, cut, MANNER, entry, move |shared, tempo, place| {
        let dial = read(form)?;
        let accepted = shared.accept(&account, dial, tempo, place);
        accepted.map(Admitted::New).map_err(|trouble| Refusal::of(trouble).into())
    })
    .await
}
