//! What is known of a business that is in use is known before anybody asks.

use std::time::Duration;

use rollcall::stores::MIGRATOR;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::api_harness::App;

#[sqlx::test(migrator = "MIGRATOR")]
async fn nobody_waits_for_the_profile_of_a_business_in_use_and_a_change_is_seen(
    _: PgPoolOptions,
    options: PgConnectOptions,
) {
    let app = App::start(options.clone()).await;
    let (business, pg, profiles) = (app.business().await, &app.ctx.stores.pg, &app.ctx.profiles);
    assert_eq!(profiles.get(pg, business).await.unwrap().unwrap().slots, 3);
    // Over this nothing can be read: whoever asks must find it there.
    let nowhere = PgPool::connect_lazy_with(options);
    nowhere.close().await;
    for slots in [4, 5, 6] {
        sqlx::query!("UPDATE business SET max_concurrent_calls = $2 WHERE business_id = $1", business.0, slots)
            .execute(pg)
            .await
            .unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let known = async {
            while profiles.get(&nowhere, business).await.unwrap().unwrap().slots != slots {
                looks.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), known).await.expect("the new limit is known");
    }
    profiles.forget(business);
    assert!(profiles.get(&nowhere, business).await.is_err());
}
