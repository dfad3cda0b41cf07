// Package term is how the programs talk with the person at the terminal: PINs
// in, errors with a remedy out, a line of progress for what takes long, and a
// typed word before what cannot be undone.
//
// Nothing here opens a file or reads the environment by itself: streams come in as
// arguments. Text that others wrote (a server's error, a document's name) passes
// through Clean, so that it cannot steer the terminal.
package term
