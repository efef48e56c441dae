//! What each payment token does. Names that Stripe has mean what they mean at Stripe; ours say `sandbox`.
//!
//! | token (`payment_method`) | authorize | capture |
//! |---|---|---|
//! | `pm_card_visa`, `pm_card_mastercard`, `pm_sandbox_wallet` | succeeds | succeeds |
//! | `pm_card_chargeDeclined`, `pm_card_visa_chargeDeclined` | 402 `card_declined`, `generic_decline` | |
//! | `pm_card_chargeDeclinedInsufficientFunds`, `pm_card_visa_chargeDeclinedInsufficientFunds` | 402 `card_declined`, `insufficient_funds` | |
//! | `pm_sandbox_slow` | succeeds after 2 s; until then nothing is to be seen | succeeds |
//! | `pm_sandbox_timeout_then_success` | takes effect at once, and the first answer never comes: 504 after 30 s | succeeds |
//! | `pm_sandbox_error_after_authorize` | takes effect, answers 500, and 500 again for the same key | succeeds |
//! | `pm_sandbox_error_after_capture` | succeeds | takes effect, answers 500, and 500 again for the same key |
//! | `pm_sandbox_error_after_refund` | succeeds | succeeds; a refund takes effect, answers 500, and 500 again for the same key |
//! | `pm_sandbox_refund_refused` | succeeds | succeeds; a refund is refused: 400 `refund_disputed_payment` |
//! | `pm_sandbox_refund_pending` | succeeds | succeeds; a refund stays `pending` until it is decided, see `sandbox` |
//! | `pm_sandbox_webhook_before_response` | takes effect and sends its webhook; the answer comes 2 s after | succeeds |
//! | `pm_sandbox_webhook_x3` | succeeds; each webhook is sent three times at once | succeeds |
//! | `pm_sandbox_late_success_after_expiry` | `processing`; succeeds half an hour later, with a webhook | succeeds then |
//! | `pm_sandbox_requires_action` | stays `requires_action`: nobody can act | refused |
//! | anything else | 400 `resource_missing`; what looks like a card number is never repeated | |

/// What a token does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Everything succeeds.
    Succeed,
    /// The issuer refuses.
    Decline(Decline),
    /// Authorizes late.
    Slow,
    /// Authorizes, and keeps the first answer back.
    NoAnswer,
    /// Authorizes, and says that it failed.
    ErrorAfterAuthorize,
    /// Captures, and says that it failed.
    ErrorAfterCapture,
    /// Refunds, and says that it failed.
    ErrorAfterRefund,
    /// Refuses refunds.
    RefuseRefund,
    /// Takes refunds on, and does not carry them out.
    PendingRefund,
    /// Authorizes, tells of it, and only then answers.
    WebhookBeforeAnswer,
    /// Tells of everything three times at once.
    WebhookThreeTimes,
    /// Authorizes long after it was asked to.
    LateSuccess,
    /// Waits for the customer.
    RequiresAction,
}

/// Why the issuer refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decline {
    /// No reason given.
    Generic,
    /// Not enough money.
    InsufficientFunds,
}

impl Decline {
    /// `decline_code` of the error.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Generic => "generic_decline",
            Self::InsufficientFunds => "insufficient_funds",
        }
    }

    /// For the customer.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Generic => "Your card was declined.",
            Self::InsufficientFunds => "Your card has insufficient funds.",
        }
    }
}

/// What this token does. `None` for one that does not exist.
pub(super) fn behaviour(token: &str) -> Option<Behaviour> {
    Some(match token {
        "pm_card_visa" | "pm_card_mastercard" | "pm_sandbox_wallet" => Behaviour::Succeed,
        "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => Behaviour::Decline(Decline::Generic),
        "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => {
            Behaviour::Decline(Decline::InsufficientFunds)
        }
        "pm_sandbox_slow" => Behaviour::Slow,
        "pm_sandbox_timeout_then_success" => Behaviour::NoAnswer,
        "pm_sandbox_error_after_authorize" => Behaviour::ErrorAfterAuthorize,
        "pm_sandbox_error_after_capture" => Behaviour::ErrorAfterCapture,
        "pm_sandbox_error_after_refund" => Behaviour::ErrorAfterRefund,
        "pm_sandbox_refund_refused" => Behaviour::RefuseRefund,
        "pm_sandbox_refund_pending" => Behaviour::PendingRefund,
        "pm_sandbox_webhook_before_response" => Behaviour::WebhookBeforeAnswer,
        "pm_sandbox_webhook_x3" => Behaviour::WebhookThreeTimes,
        "pm_sandbox_late_success_after_expiry" => Behaviour::LateSuccess,
        "pm_sandbox_requires_action" => Behaviour::RequiresAction,
        _ => return None,
    })
}
