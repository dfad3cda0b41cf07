package main

import (
	"crypto/rand"
	"runtime"
	"time"

	"github.com/privyseal/privyseal/firmware/threshold"
	"github.com/privyseal/privyseal/firmware/threshold/twolayer"
)

// power is what a plain exponentiation takes while all cores do the same.
type powerTimes struct{ halfWall, halfCPU, fullWall, fullCPU time.Duration }

func (x powerTimes) mean(y powerTimes) powerTimes {
	return powerTimes{(x.halfWall + y.halfWall) / 2, (x.halfCPU + y.halfCPU) / 2, (x.fullWall + y.fullWall) / 2, (x.fullCPU + y.fullCPU) / 2}
}

// powers measures plain exponentiations of both lengths on all cores.
func (a *plantAuthority) powers() (x powerTimes, err error) {
	pub := &a.key.Public
	em := make([]byte, len(pub.N))
	_, _ = rand.Read(em[1:]) // never fails
	power := func(size int) func() error {
		raw := make([]byte, size)
		_, _ = rand.Read(raw[1:])
		d := threshold.NewSecret(raw)
		return func() error {
			e, err := twolayer.NewExponentiator(pub, d)
			if err != nil {
				return err
			}
			_, err = e.Exp(em)
			return err
		}
	}
	cores := runtime.NumCPU()
	if x.halfWall, x.halfCPU, err = onAllCores(cores, plain, power(twolayer.SubKeyLen(pub.Bits()))); err != nil {
		return x, err
	}
	x.fullWall, x.fullCPU, err = onAllCores(cores, plain, power(len(pub.N)))
	return x, err
}
