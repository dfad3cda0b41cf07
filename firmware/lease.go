package firmware

// Lease is what the process around the interpreter enforces between two steps,
// by the boot-time clock in nanoseconds: no partial signature is released at
// or after Until, and at Lock the token is locked, whatever else goes on.
type Lease struct {
	Guarded bool  // false: the ledger asks for no beats, and the rest is zero
	Until   int64 // 0: no beat has come yet
	Lock    int64 // 0: the token is locked already, or there is nothing to lock
}

// Lease is read after each step.
func (m *Machine) Lease() Lease { return Lease{} }

// Next is when [Machine.Tick] is due, on the boot-time clock; 0: not before
// another message.
func (m *Machine) Next() int64 { return 0 }

// Tick is a step that time alone brings: challenges, reports, limits that have
// passed. Called early it does nothing. The caller, who locked the token when
// the lease was over, calls it right after.
func (m *Machine) Tick(in Inputs) Effects { return Effects{} }

// Destroy destroys the shares and their keys in the token. The caller calls it
// when the record of the decision is durable, and again at each start while
// [Machine.Destroyed]: a crash in between leaves it to the next.
func (m *Machine) Destroy() error { return nil }

// Destroyed reports whether the second limit has passed. Only a restore brings
// the device back.
func (m *Machine) Destroyed() bool { return false }
