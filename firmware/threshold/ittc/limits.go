package ittc

import "github.com/privyseal/privyseal/firmware/threshold"

const (
	// MaxGroups is how many parts a device holds at most, one of each group: as
	// many as a share has in the split by sets of devices.
	MaxGroups = threshold.MaxSubShares

	// searchBudget bounds the search: how many tries for one group times how many
	// sets are still open. With it and maxSample the search for 5 of 9 devices
	// takes milliseconds, and the longest there is a few seconds.
	searchBudget = 8000

	// maxSample is how many of the open sets a try looks at.
	maxSample = 400

	// maxTries is how often a group is sought anew, when few sets are open.
	maxTries = 60
)
