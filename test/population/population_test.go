package population_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/test/population"
)

func TestGenerate(t *testing.T) {
	c := population.Config{Seed: 1, People: 60, Services: 10, Days: 40, Takeovers: 3}
	all := population.Generate(c)
	if !reflect.DeepEqual(all, population.Generate(c)) {
		t.Fatal("the same seed gave something else")
	}
	cases := map[population.Attack]map[int]bool{}
	uses, signIns, days := 0, 0, map[[2]int]bool{}
	for i, h := range all {
		if i > 0 && h.At.Before(all[i-1].At) {
			t.Fatalf("event %d is before the one before it", i)
		}
		if (h.Network == "") != (h.Attack == population.KeptCode && h.TokenAge == 0) || h.Actor < 0 || h.Actor >= c.People+c.Services || (h.Attack == "") != (h.Case == 0) {
			t.Fatalf("%+v", h)
		}
		if h.Attack != "" {
			if cases[h.Attack] == nil {
				cases[h.Attack] = map[int]bool{}
			}
			cases[h.Attack][h.Case] = true
			continue
		}
		if h.Actor < c.People {
			days[[2]int{h.Actor, int(h.At.Unix() / 86400)}] = true
			switch h.Did {
			case risk.Use:
				uses++
				if h.TokenAge <= 0 || h.TokenAge > 11*time.Hour {
					t.Fatalf("%+v", h)
				}
			case risk.SignIn:
				signIns++
			}
		}
	}
	for _, a := range population.Attacks {
		if len(cases[a]) != c.Takeovers {
			t.Errorf("%s: %d", a, len(cases[a]))
		}
	}
	// People use something a dozen times on a day, and sign in once or a little more.
	if perDay := float64(uses) / float64(len(days)); perDay < 5 || perDay > 40 {
		t.Errorf("%.1f uses a day", perDay)
	}
	if perDay := float64(signIns) / float64(len(days)); perDay < 0.8 || perDay > 3 {
		t.Errorf("%.1f sign-ins a day", perDay)
	}
	t.Logf("%d events, %d days of people, %d uses, %d sign-ins", len(all), len(days), uses, signIns)
}
