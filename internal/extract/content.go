package extract

// Where a page marks its main part, that must have so many words that are not linked to be believed.
const believed = 30

// The rules for pages that mark nothing look at a block and its neighbours: how many words each has, and how many of them are links. They are the
// decision tree of C. Kohlschütter, P. Fankhauser and W. Nejdl, "Boilerplate Detection using Shallow Text Features", WSDM 2010.
const (
	linky          = 0.333333
	linkyNeighbour = 0.555556
	longAfterLinks = 40
	longNextLinks  = 17
	long           = 16
	longNext       = 15
	shortBefore    = 4
)

// content are the blocks of the page's own text.
func (d *document) content() []block {
	for where := inBody; where > elsewhere; where-- {
		if marked, words := d.marked(where); words >= believed || (where == inBody && words > 0) {
			return marked
		}
	}
	var out []block
	for i := range d.blocks {
		var before, after block
		if i > 0 {
			before = d.blocks[i-1]
		}
		if i < len(d.blocks)-1 {
			after = d.blocks[i+1]
		}
		if d.blocks[i].isContent(before, after) {
			out = append(out, d.blocks[i])
		}
	}
	if len(out) == 0 { // a page of a few words
		for _, b := range d.blocks {
			if b.linkDensity() <= linky {
				out = append(out, b)
			}
		}
	}
	return out
}

// marked are the blocks of a part of the page, without lists of links, and the number of their words that are not linked.
func (d *document) marked(where place) (blocks []block, words int) {
	for _, b := range d.blocks {
		if b.place >= where && (b.linkDensity() < 0.7 || b.words == 0) {
			blocks = append(blocks, b)
			words += b.words - b.linked
		}
	}
	return blocks, words
}

func (b block) isContent(before, after block) bool {
	switch {
	case b.linkDensity() > linky:
		return false
	case before.linkDensity() > linkyNeighbour:
		return b.words > longAfterLinks || after.words > longNextLinks
	}
	return b.words > long || after.words > longNext || before.words > shortBefore
}
