//! Signatures of Standard Webhooks: HMAC-SHA256 of id, time and body, with each secret that has not ended.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngExt as _;
use sha2::Sha256;

use super::Message;

/// What messages are signed with. Shows itself only where it is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whsec_…")
    }
}

impl SigningSecret {
    /// 256 random bits.
    pub fn generate() -> Self {
        let random: [u8; 32] = rand::rng().random();
        Self(random.into())
    }

    /// One that is stored.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As the merchant is told.
    pub fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(&self.0))
    }

    fn sign(&self, message: &Message<'_>) -> Option<String> {
        // A key of any length is one.
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let mac = mac
            .chain_update(message.id)
            .chain_update(format!(".{}.", message.time.timestamp()))
            .chain_update(message.body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// The header `webhook-signature`: a signature by each secret, separated by spaces.
pub(super) fn sign_all(message: &Message<'_>) -> String {
    message.secrets.iter().filter_map(|secret| secret.sign(message)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    /// The example of the standard's own libraries.
    #[test]
    fn a_message_is_signed_as_the_standard_says() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let secrets = [SigningSecret::from_bytes(secret)];
        let message = Message {
            url: "",
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            time: DateTime::from_timestamp(1_614_265_330, 0).expect("a time"),
            body: r#"{"test": 2432232314}"#,
            secrets: &secrets,
        };
        assert_eq!(sign_all(&message), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = [secrets[0].clone(), SigningSecret::from_bytes(vec![7; 32])];
        assert_eq!(sign_all(&Message { secrets: &two, ..message }).split(' ').count(), 2);
        assert_eq!(format!("{:?}", two[0]), "whsec_…");
        assert_eq!(two[0].reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }
}
