// Package doccheck holds the documentation to the source: a test that
// docs/threat-model.md or docs/coverage.md names must exist, every requirement
// must have its row, and every claim that an attacker cannot do something must
// name the test that tries. It has no code but its tests.
package doccheck
