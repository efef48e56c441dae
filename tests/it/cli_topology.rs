//! `holdfast topology`: what is declared, whether the broker has it, and what may be tuned.

use std::{fs, path::Path};

use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use serde_json::Value;

use crate::{
    cli::{Cli, NOWHERE},
    support::broker,
};

const PREFIX: &str = "HOLDFAST__BUS__RABBITMQ__PREFIX";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn what_is_declared_is_shown_without_a_broker() {
    let cli =
        Cli::new().with(PREFIX, "shop").with("HOLDFAST__BUS__RABBITMQ__URL", &format!("amqp://{NOWHERE}"));
    let shown = json(cli.run(&["topology", "show", "--json"]).await.prints());
    let names = |kind: &str| -> Vec<String> {
        let all = shown[kind].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let text = cli.run(&["topology", "show"]).await.prints().to_owned();
    for kind in ["exchanges", "queues", "policies"] {
        assert!(names(kind).len() > 2, "{shown}");
        for name in names(kind) {
            assert!(text.lines().any(|line| line.split_whitespace().next() == Some(&name)), "{name}: {text}");
        }
    }
    for name in ["shop.payment", "shop.fulfilment", "shop.retry.30m", "shop.dead-letter", "shop.unroutable"] {
        assert!(names("queues").iter().any(|queue| queue == name), "{name}: {shown}");
    }
    let payment = shown["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "shop.payment");
    let payment = &payment.unwrap()["arguments"];
    assert_eq!((&payment["x-delivery-limit"], &payment["x-queue-type"]), (&20.into(), &"quorum".into()));
    assert!(text.contains("x-delivery-limit=20") && text.contains("payment.created.v1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_differs_is_named_and_what_is_missing_is_made() {
    let prefix = broker::options(broker::shared()).prefix;
    let cli = || Cli::new().with(PREFIX, &prefix);
    let queue = format!("{prefix}.payment");
    let state = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.split_once(name).unwrap().1.trim().to_owned()
    };
    for _ in 0..2 {
        let ended = cli().run(&["topology", "check"]).await;
        assert_eq!((ended.code, state(&ended.stdout, &queue)), (Some(1), "missing".into()), "{ended:?}");
        assert!(ended.stdout.contains("AMQP does not tell of bindings"), "{ended:?}");
    }
    let made = cli().run(&["topology", "apply"]).await;
    assert_eq!(state(made.prints(), &queue), "created");
    let found = cli().run(&["topology", "apply"]).await;
    assert_eq!(state(found.prints(), &queue), "ok");
    let checked = json(cli().run(&["topology", "check", "--json"]).await.prints());
    assert_eq!((&checked["wrong"], &checked["objects"][0]["state"]), (&0.into(), &"ok".into()), "{checked}");

    let other = cli().with("HOLDFAST__BUS__RABBITMQ__DELIVERY_LIMIT", "9");
    let told = "x-delivery-limit is 20, and must be 9";
    for command in ["apply", "check"] {
        let ended = other.run(&["topology", command]).await;
        assert_eq!((ended.code, state(&ended.stdout, &queue).as_str()), (Some(1), told), "{ended:?}");
        let advice = format!("queue {queue}: {told}. It cannot change");
        assert!(ended.stdout.contains(&advice) && ended.stdout.contains("delete_queue"), "{ended:?}");
    }
    let ill = other.run(&["doctor"]).await;
    let line = ill.stdout.lines().find(|line| line.starts_with("RabbitMQ")).unwrap();
    assert!(line.contains("FAILED: ") && line.contains(&queue) && line.contains(told), "{ill:?}");
    let json = json(&other.run(&["topology", "check", "--json"]).await.stdout);
    let differs =
        json["objects"].as_array().unwrap().iter().find(|one| one["name"] == queue.as_str()).unwrap();
    assert_eq!(
        (&differs["state"], &differs["argument"], &differs["found"], &differs["wanted"]),
        (&"different".into(), &"x-delivery-limit".into(), &"20".into(), &"9".into()),
        "{differs}"
    );

    let (_connection, channel) = broker::channel(broker::shared()).await;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    let ended = cli().run(&["topology", "check"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(state(&ended.stdout, &queue).contains(" is not set, and must be "), "{ended:?}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_named() {
    let away = Cli::new().with("HOLDFAST__BUS__RABBITMQ__URL", &format!("amqp://{NOWHERE}"));
    away.run(&["topology", "check"]).await.fails_with(&["RabbitMQ at 127.0.0.1:1 cannot be used"]);
}

#[tokio::test]
async fn the_policies_in_the_repository_are_those_of_the_program() {
    let cli = Cli::new().with(PREFIX, "holdfast");
    let printed = cli.run(&["topology", "policies"]).await.prints().to_owned();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rabbitmq-policies.sh");
    assert_eq!(printed, fs::read_to_string(file).unwrap(), "`make schemas` writes it anew");
}
