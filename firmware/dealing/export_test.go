package dealing

import "github.com/privyseal/privyseal/firmware/threshold"

// DealKey is Deal with a key that a test has, which it wipes.
func (d *Prepared) DealKey(in Inputs, whole *threshold.WholeKey) (*Result, error) {
	return d.deal(in, whole, func(string) {})
}
