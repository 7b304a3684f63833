package auditchain

import "testing"

func BenchmarkFollow(b *testing.B) {
	chain := newChain(100_000)
	head := headOf(chain)
	b.ReportAllocs()
	for b.Loop() {
		follow(chain, head)
	}
}
