//! Payloads that are no scripts: a clear error each, and the service lives on.

use async_nats::HeaderMap;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn payloads_that_are_no_scripts_get_a_clear_error_each() {
    let nats = Nats::plain();
    let _service = Service::start(&nats, OPEN_TO_ANYBODY);
    let client = nats.client().await;
    let binary: Vec<u8> = (0..=255_u8).cycle().take(5000).collect();
    for (name, body, code, says) in [
        ("not UTF-8", b"let x = \"\xff\";".to_vec(), "parse-error", "not UTF-8 from byte 9"),
        ("empty", Vec::new(), "parse-error", "the script is empty"),
        ("blank", b" \n\t".to_vec(), "parse-error", "the script is empty"),
        ("10 MiB", vec![b'1'; 10 << 20], "limit-script-size", "the script has 10485760 bytes"),
        ("65 KiB", vec![b'1'; 65 << 10], "limit-script-size", "more than 65536 bytes"),
        ("binary", binary, "parse-error", "not UTF-8"),
        ("zeros", vec![0; 100], "parse-error", "parse-error"),
        ("half a script", b"if create_key_space(".to_vec(), "parse-error", "line 1"),
    ] {
        let reply = ask(&client, body, HeaderMap::new()).await;
        assert_eq!(reply.error.as_deref(), Some(code), "{name}: {}", reply.text);
        assert!(reply.text.contains(says), "{name}: {:?} is not in {:?}", says, reply.text);
        assert!(reply.text.len() < 300, "{name}: {}", reply.text);
        assert_eq!(ask_plainly(&client, "40 + 2").await.text, "42", "after {name}");
    }
}
