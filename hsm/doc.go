// Package hsm is a PKCS#11 token as Go sees it: identity keys as
// [crypto.Signer] and [crypto/ecdh.KeyExchanger], an AEAD, versioned data
// objects, and modular exponentiation with an exponent that stays inside the
// token.
//
// It stands on github.com/miekg/pkcs11 directly: crypto11 has no ECDH, data
// objects, wrapping or logout, and its session pool never recovers once all
// sessions are closed, which is exactly what a heartbeat must be able to do.
//
// # Locking
//
// A [Token] is locked until [Token.Unlock] logs in, once, and stays so until
// [Token.Lock]. Every operation passes a gate (a read-write lock): Lock raises
// a flag, waits until the operations in flight have left, logs out and closes
// all sessions. The order matters. C_Logout alone is no fence, because an
// operation already initialised still completes; and C_CloseAllSessions that
// meets a running C_Sign crashes the process. An operation that was under way
// when the flag went up drops its result and returns [ErrLocked]. So Lock waits
// for the token calls in flight and no others: work of several calls looks for
// the flag between them, and exponentiations, the only calls that take
// milliseconds, are let in one for each processor. A Lock wins over every
// Unlock that it overlaps with.
//
// # Destruction
//
// [Token.DestroyPublicObjects] and [Token.DestroyWithPIN] are the exception to
// the gate: they work while the token is locked, and Lock does not stop them.
// What is stored with [Token.PutPublicObject] can be destroyed without a PIN.
//
// # Sessions
//
// A session is used by one goroutine at a time. Idle ones are kept for the
// next use; one in which anything failed is closed, since PKCS#11 may have
// left an operation active in it.
//
// # One process, one token
//
// SoftHSM2 reads SOFTHSM2_CONF when the module is initialised, and the login
// belongs to the process, not to a session. A second [Open] of the same token
// in a process is therefore refused. A module is initialised with its first
// token and finalised when its last one is closed.
//
// # Inside the token
//
// "Inside" is as far away as the token is. SoftHSM2 is a library in this very
// process: an exponent used inside it never crosses the PKCS#11 boundary, but
// whoever reads the process's memory reads SoftHSM2's too. In a hardware token
// it is out of the host's reach. The code and its tests are the same for both.
//
// # What stays in memory
//
// miekg/pkcs11 copies every argument and result through the C heap and frees
// it without wiping. That is one more reason to use an exponent inside the
// token: then no copy of it is ever made. [Token.RevealExponent] and
// [Token.WrapExponent] do leave such copies behind until the C heap reuses
// them, and so does the PIN.
package hsm
