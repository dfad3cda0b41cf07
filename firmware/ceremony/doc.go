// Package ceremony is the initialisation protocol (source A, figures 2 to 5):
// the messages between the administrator's desk and the devices, what each
// side verifies of them, and a device's part in them as a state machine,
// [Session], that does no input or output.
//
// The administrator's card opens an attempt ([Open]); devices introduce
// themselves ([Identity]) and officers enrol ([Enrolment]); the administrator's
// card certifies all of them for some hours ([Roster]); the lead makes each key
// of everyone's seeds, splits it and forgets it ([Deal]); holders store their
// shares and every subset signs a test ([Install], [Test]); everyone signs the
// genesis that he computed himself ([BuildGenesis], [Prepare]); then it comes
// into force ([Commit]).
package ceremony
