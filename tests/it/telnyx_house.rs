//! A business of the house at Telnyx's side of the sandbox, and hands that sign as Telnyx would.

use rollcall::{
    businesses::vault::Vault,
    ids::{AttemptId, BusinessId, Carrier},
    sim::sign_telnyx,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    by_hand::client,
    house::{House, SEALING_KEY, caller_id},
};

/// The API key of every account here.
pub(crate) const API_KEY: &str = "KEY0123456789";
/// The seed that the sandbox signs with (RFC 8032, section 7.1, test 1).
pub(crate) const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5,
    0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// The connection of a business: digits of its own.
pub(crate) fn connection(business: BusinessId) -> String {
    (business.0.as_u128() % 10_u128.pow(19)).to_string()
}

impl House {
    /// A business that dials through Telnyx, with this many slots.
    pub(crate) async fn telnyx_business(&self, slots: i32) -> BusinessId {
        let business = self.business(slots).await;
        self.telnyx_account(business).await;
        sqlx::query!("DELETE FROM carrier_account WHERE business_id = $1 AND carrier = 'twilio'", business.0)
            .execute(&self.ctx.stores.pg)
            .await
            .unwrap();
        self.carriers(business, &["telnyx"]).await;
        business
    }

    /// Gives a business an account at Telnyx.
    pub(crate) async fn telnyx_account(&self, business: BusinessId) {
        let vault = Vault::from_setting(&SecretString::from(SEALING_KEY)).unwrap();
        let (secret, key) = vault.seal(business, Carrier::Telnyx, &SecretString::from(API_KEY)).unwrap();
        sqlx::query!(
            "INSERT INTO carrier_account (business_id, carrier, reference, caller_ids, calls_per_second, secret, sealing_key, public_key)
             VALUES ($1, 'telnyx', $2, ARRAY[$3::text], 10000, $4, $5, $6)",
            business.0,
            connection(business),
            caller_id(business),
            secret,
            key,
            self.sim.telnyx_public_key()
        )
        .execute(&self.ctx.stores.pg)
        .await
        .unwrap();
        self.ctx.profiles.forget(business);
    }

    /// Which carriers a business dials through, in this order.
    pub(crate) async fn carriers(&self, business: BusinessId, carriers: &[&str]) {
        let carriers: Vec<String> = carriers.iter().map(|carrier| (*carrier).to_owned()).collect();
        sqlx::query!("UPDATE business SET carriers = $2 WHERE business_id = $1", business.0, &carriers)
            .execute(&self.ctx.stores.pg)
            .await
            .unwrap();
        self.ctx.profiles.forget(business);
    }

    /// The path that Telnyx tells everything of an attempt to.
    pub(crate) fn telnyx_hook(&self, business: BusinessId, attempt: AttemptId) -> String {
        format!("/webhooks/telnyx/{}", self.ctx.tokens.make(business, attempt))
    }

    /// Posts a body that was signed by `seed` at `timestamp`; the HTTP status of the answer.
    pub(crate) async fn telnyx_post(&self, path: &str, body: &str, seed: &[u8; 32], timestamp: u64) -> u16 {
        let timestamp = timestamp.to_string();
        let request = client()
            .post(format!("http://{}{path}", self.addr))
            .header("Telnyx-Signature-Ed25519", sign_telnyx(seed, &timestamp, body.as_bytes()))
            .header("Telnyx-Timestamp", timestamp)
            .header("content-type", "application/json")
            .body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    }

    /// The same, signed as it should be.
    pub(crate) async fn telnyx_told(&self, path: &str, body: &Value) -> u16 {
        self.telnyx_post(path, &body.to_string(), &SEED, now_secs()).await
    }
}

/// The time of a signature made now.
pub(crate) fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// An event of a call as Telnyx writes it.
pub(crate) fn telnyx_event(business: BusinessId, call_id: &str, event: &str, more: Value) -> Value {
    let mut payload = json!({
        "call_control_id": call_id, "connection_id": connection(business), "call_leg_id": "428c31b6-7af4-4bcb-b7f5-5013ef9657c1",
        "call_session_id": "428c31b6-abf3-3bc1-b7f4-5013ef9657c1", "client_state": null,
    });
    for (name, value) in more.as_object().unwrap() {
        payload[name] = value.clone();
    }
    json!({
        "data": { "record_type": "event", "event_type": event, "id": uuid::Uuid::now_v7(), "occurred_at": "2026-11-20T17:30:13.521992Z",
            "payload": payload },
        "meta": { "attempt": 1, "delivered_to": "https://dialer.example.com/webhooks/telnyx/x" },
    })
}
