//! Somebody rings and there is no room: they hear so, are put through, or are refused, as the number says, at both carriers.

use rollcall::{
    businesses::suppressions::{self, Entry, List, Terms},
    ids::Carrier,
    sim::{ApiFault, Faults, Rule, Status, Until},
};

use crate::{
    calls_that_come_in::{Street, THEIRS},
    house::{caller_id, numbers},
    voice_house::SOON,
};

const BUSY: &str = "All our lines are busy.";
/// Where calls are put through to.
const DESK: &str = "+12125550188";

/// A number with one slot, and somebody who talks there for as long as it takes.
async fn at_the_cap(carrier: Carrier) -> (Street, crate::voice_house::Media, String) {
    let street = Street::open(carrier, 1).await;
    let media = street.house.media().await;
    street.callers_say(&["Wait, says {tag}."], true);
    let first = street.ring(THEIRS);
    street.house.until("the first talks", || async { media.sessions.count() == 1 }).await;
    (street, media, first)
}

async fn clear(street: Street, media: crate::voice_house::Media, first: &str) {
    street.house.sim.end(first, Status::Completed).unwrap();
    street.house.sim.wait(Until::Sessions(0), SOON).await.unwrap();
    street.free().await;
    media.close().await;
    street.house.close().await;
}

async fn hears_what_the_number_says(carrier: Carrier) {
    let (street, media, first) = at_the_cap(carrier).await;
    let dial = format!("[dial {DESK}]");
    let (said, passed) = (BUSY.to_owned(), dial.clone());
    let cases = [
        (Some(BUSY), None, vec![said.clone()], Status::Completed),
        (None, Some(DESK), vec![passed.clone()], Status::Completed),
        (Some(BUSY), Some(DESK), vec![said, passed], Status::Completed),
        (None, None, vec![], Status::Busy),
    ];
    for (at, (fallback, redirect, heard, status)) in (0_i64..).zip(cases) {
        street.answers(fallback, redirect).await;
        let sid = street.ring(&numbers(9)[usize::try_from(at).unwrap()]);
        let call = street.over(&sid).await;
        assert_eq!((call.heard.clone(), call.status), (heard, status), "{call:?}");
        assert_eq!((street.turned_away().await, street.rows().await.len()), (at + 1, 1), "counted, and no row is left");
    }
    assert!(street.set(None).await);
    let call = street.ring(&numbers(9)[8]);
    let call = street.over(&call).await;
    assert_eq!((call.heard.len(), call.status), (0, Status::Busy), "nobody talks there");
    assert_eq!(street.turned_away().await, 4, "that is no lack of room");
    assert_eq!(street.house.sim.figures().total.redirected, 2);
    clear(street, media, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rings_at_twilio_hears_the_message_is_put_through_or_refused() {
    hears_what_the_number_says(Carrier::Twilio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_rings_at_telnyx_hears_the_message_is_put_through_or_refused() {
    hears_what_the_number_says(Carrier::Telnyx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_have_been_put_through_to_us_is_not_put_through_again() {
    let (street, media, first) = at_the_cap(Carrier::Telnyx).await;
    street.answers(Some(BUSY), Some(DESK)).await;
    let neighbour = street.house.telnyx_business(1).await;
    let call = street.over(&street.ring(&caller_id(neighbour))).await;
    assert_eq!(call.heard, [BUSY]);
    // The desk becomes a number that somebody calls from.
    let pg = &street.house.ctx.stores.pg;
    sqlx::query!("UPDATE carrier_account SET caller_ids = ARRAY[$2::text] WHERE business_id = $1", neighbour.0, DESK)
        .execute(pg)
        .await
        .unwrap();
    let call = street.over(&street.ring(&numbers(1)[0])).await;
    assert_eq!(call.heard, [BUSY]);
    sqlx::query!("UPDATE carrier_account SET caller_ids = '{+12055550190}' WHERE business_id = $1", neighbour.0)
        .execute(pg)
        .await
        .unwrap();
    let call = street.over(&street.ring(&numbers(2)[1])).await;
    assert_eq!(call.heard, [BUSY.to_owned(), format!("[dial {DESK}]")], "it is no number of ours any more");
    let entry = Entry { number: DESK.to_owned(), terms: Terms::default() };
    let list = List::Business(street.business);
    suppressions::put(&mut pg.acquire().await.unwrap(), list, &[entry], "api").await.unwrap();
    let call = street.over(&street.ring(&numbers(3)[2])).await;
    assert_eq!(call.heard, [BUSY], "who is on the list is not dialed");
    clear(street, media, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_call_from_one_number_is_no_lack_of_room() {
    let street = Street::open(Carrier::Twilio, 2).await;
    let media = street.house.media().await;
    street.callers_say(&["Wait, says {tag}."], true);
    let first = street.ring(THEIRS);
    street.house.until("the first talks", || async { media.sessions.count() == 1 }).await;
    let call = street.over(&street.ring(THEIRS)).await;
    assert_eq!(call.heard, [BUSY], "it hears the message");
    assert_eq!(street.turned_away().await, 0, "there is a slot");
    clear(street, media, &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_carrier_that_are_lost_let_nobody_hear_anything_twice() {
    let (street, media, first) = at_the_cap(Carrier::Telnyx).await;
    street.answers(Some(BUSY), Some(DESK)).await;
    let update = vec![Rule::next(ApiFault::LostAnswer, 3)];
    street.house.sim.set_faults(Faults { update, ..Faults::default() }).unwrap();
    let call = street.over(&street.ring(&numbers(1)[0])).await;
    assert_eq!(call.heard, [BUSY.to_owned(), format!("[dial {DESK}]")], "{call:?}");
    assert_eq!(street.turned_away().await, 1, "it is one call");
    assert!(street.house.sim.faults().update.is_empty(), "three answers were lost");
    clear(street, media, &first).await;
}
