//! Commands on a call that is there: what it hears, where its sound goes, and whether it is answered at all.

use url::Url;

use super::{Account, At, CarrierError, Client, HangUp, PickUp, Speech, timed};

impl Client {
    /// Tells the carrier what to say to whoever picked up; it tells us when all is said. `key` names this speech: a second
    /// request with it within a minute is ignored. A call that is over says so. Carriers that ask for it need no telling.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn say(
        &self,
        account: &Account,
        call_id: &str,
        speech: &Speech,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        match self.at(account) {
            At::Twilio(_) => Ok(HangUp::Done),
            At::Telnyx(telnyx) => timed(account, "say", telnyx.say(call_id, speech, key)).await,
        }
    }

    /// Leaves the message for machines, in place of whatever is being said. A carrier that is told what to say gets the words, by
    /// the name `key` as in [`Client::say`], and returns `mark` with the word that they were said; another one asks `url` for
    /// them at once.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn leave(
        &self,
        account: &Account,
        call_id: &str,
        speech: &Speech,
        (key, mark): (&str, &str),
        url: &str,
    ) -> Result<HangUp, CarrierError> {
        timed(account, "leave", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.ask_at(call_id, url).await,
                At::Telnyx(telnyx) => telnyx.leave(call_id, speech, key, mark).await,
            }
        })
        .await
    }

    /// Tells the carrier to stream the sound of a call that was answered to `url`, both ways. `key` names this command: a second
    /// one with it within a minute is ignored. A call that is over says so. Carriers that ask for it need no telling.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn stream(&self, account: &Account, call_id: &str, url: &Url, key: &str) -> Result<HangUp, CarrierError> {
        match self.at(account) {
            At::Twilio(_) => Ok(HangUp::Done),
            At::Telnyx(telnyx) => timed(account, "stream", telnyx.stream(call_id, url, key)).await,
        }
    }

    /// Puts a live call through to another number. `key` names this command where the carrier takes a name: a second one with it
    /// within a minute is ignored. Without, a second one would begin the transfer anew.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn transfer(
        &self,
        account: &Account,
        call_id: &str,
        number: &str,
        caller_id: &str,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        timed(account, "transfer", async {
            match self.at(account) {
                At::Twilio(twilio) => twilio.transfer(call_id, number, caller_id).await.map(|()| HangUp::Done),
                At::Telnyx(telnyx) => telnyx.transfer(call_id, number, caller_id, key).await,
            }
        })
        .await
    }

    /// Answers a call that came in. `key` names this command: a second one with it within a minute is ignored. A call that is over
    /// says so. Carriers that ask what to do with such a call need no telling.
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn pick_up(
        &self,
        account: &Account,
        call_id: &str,
        pick_up: &PickUp<'_>,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        match self.at(account) {
            At::Twilio(_) => Ok(HangUp::Done),
            At::Telnyx(telnyx) => timed(account, "answer", telnyx.pick_up(call_id, pick_up, key)).await,
        }
    }

    /// Refuses a call that came in, as busy; `key` as in [`Client::pick_up`].
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn reject(&self, account: &Account, call_id: &str, key: &str) -> Result<HangUp, CarrierError> {
        match self.at(account) {
            At::Twilio(_) => Ok(HangUp::Done),
            At::Telnyx(telnyx) => timed(account, "reject", telnyx.reject(call_id, key)).await,
        }
    }

    /// Says to a call that there is no room for it; the word of its end comes with
    /// [`Away::Said`](super::call::Away::Said). `key` as in [`Client::pick_up`].
    ///
    /// # Errors
    /// When the carrier could not be asked or refused.
    pub async fn say_no_room(
        &self,
        account: &Account,
        call_id: &str,
        speech: &Speech,
        key: &str,
    ) -> Result<HangUp, CarrierError> {
        match self.at(account) {
            At::Twilio(_) => Ok(HangUp::Done),
            At::Telnyx(telnyx) => timed(account, "say", telnyx.say_no_room(call_id, speech, key)).await,
        }
    }
}
