package scheme

// Secrets reveals all secret numbers of a dealing to tests.
func (d *Dealing) Secrets() (out [][]byte) {
	for _, x := range d.Devices {
		switch x := x.(type) {
		case *setDevice:
			for _, s := range x.share.Subs {
				out = append(out, s.Value.Reveal())
			}
		case *groupDevice:
			for _, s := range x.share.Parts {
				out = append(out, s.Reveal())
			}
		case *pointDevice:
			out = append(out, x.share.Value.Reveal())
		case *calculator:
			for _, s := range x.share.Keys {
				out = append(out, s.Reveal())
			}
		}
	}
	if c, ok := d.Combiner.(*layerCombiner); ok {
		for _, s := range c.dealt.Combiners {
			for _, part := range s.Parts {
				out = append(out, part.Reveal())
			}
		}
	}
	return out
}
