// Package server is the message server of a site: between its signing devices,
// which have no network, the people who come over HTTPS, and the servers of
// the other sites.
//
// It relays the ceremony, takes requests and coordinates them (package
// coordinator), keeps officers' inboxes, carries unlock approvals, and writes
// down every message in and out. For authorities in two layers it is the task
// distributor and output interface, and the desk of its own calculators and
// combiners (package tolerant), on channels that all sites hear. It is the
// devices' firewall: what is malformed, unsigned, unknown or too much ends here.
//
// It is trusted with nothing. What counts is signed by requesters, officers and
// devices, and checked by those whom it concerns.
package server
