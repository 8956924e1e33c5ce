package admin_test

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/policy"
)

// BenchmarkRead is a read at /v1 by somebody with a history, with its risk scored and
// without: all of it, and its decision alone.
func BenchmarkRead(b *testing.B) {
	for _, scored := range []bool{false, true} {
		name := map[bool]string{false: "not scored", true: "scored"}[scored]
		r := newRig(b)
		if scored {
			r.scored()
		}
		r.move(atHome)
		dana := r.person("dana", r.admins.ID)
		r.accustomed(dana.ID, "laptop", policy.PersonRead)
		l := r.login(dana, everything)
		b.Run(name+"/request", func(b *testing.B) {
			for b.Loop() {
				r.want(l.do("GET", "/v1/people", nil), 200, "")
			}
		})
		b.Run(name+"/decision", func(b *testing.B) {
			b.ReportAllocs()
			in := judged(l, string(policy.PersonRead))
			for b.Loop() {
				if _, _, err := r.do.Judge(b.Context(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
