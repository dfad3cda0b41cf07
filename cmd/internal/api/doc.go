// Package api is what people and programs say to a message server over HTTPS:
// paths, bodies and answers.
//
// A path is exact; what it is about stands in the body or, for a poll, in the
// poll's parameters. Bodies and answers are deterministic CBOR of the structs
// below ([envelope.Marshal]), except where a signed message travels as it is:
// then the body is the message, sealed to the server's agreement key. The
// answer to a POST without content is an empty body.
//
//	POST /v1/relay        Relay                    → Relayed
//	POST /v1/system       System                   → SystemTaken
//	POST /v1/system/show  SystemAsk                → SystemPage; 404 before the ceremony
//	POST /v1/request      sealed "request"         → Accepted
//	GET  /v1/tracking     inbox=DIGEST             → one message, Tracking; its cursor is the revision
//	GET  /v1/inbox        inbox=KEY ID             → sealed "inbox.item" messages, InboxItem
//	POST /v1/approval     sealed "approval"        → Approved
//	POST /v1/unlock/ask   UnlockAsk                → firmware.UnlockOffered
//	POST /v1/unlock       sealed "unlock.approval" → Unlocked
//	POST /v1/status       (empty)                  → SystemStatus
//	POST /v1/register     Register                 → Registered
//	POST /v1/recertify    Recertify                → firmware.Requests
//	POST /v1/source/send  SourceSend               → SourceSent
//	POST /v1/dealing/invite   Invite               → DeviceAnswer, "dealing.invited"
//	POST /v1/dealing/install  Install              → DeviceAnswer, "dealing.installed"
//	POST /v1/tasks        (empty)                  → Tasks
//	POST /v1/issued       IssuedAsk                → Issued
//
// What a server refuses is an HTTP status with one line of text: 400 malformed,
// 403 denied (both count as failed attempts of the source), 404 unknown, 409
// refused for its time or state, 503 busy.
package api
