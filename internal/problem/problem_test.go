package problem

import (
	"errors"
	"fmt"
	"testing"
)

func TestError(t *testing.T) {
	cause := errors.New("disk full")
	base := New(Unavailable, "busy", "Try again.")
	p := base.Because(cause).WithHint("countersignd status")
	wrapped := fmt.Errorf("saving: %w", p)

	if base.Unwrap() != nil || base.Hint != "" {
		t.Error("Because or WithHint changed the original")
	}
	for text, want := range map[string]string{
		base.Error(): "busy: Try again.", p.Error(): "busy: Try again.: disk full",
		New(Denied, "no", "").Error(): "no", Newf(Invalid, "x", "%d%%", 5).Error(): "x: 5%",
		Throttled.Error(): "throttled",
	} {
		if text != want {
			t.Errorf("%q, want %q", text, want)
		}
	}
	for _, c := range []struct {
		target error
		is     bool
	}{
		{Unavailable, true},
		{Denied, false},
		{cause, true},
		{base, true},
		{New(Unavailable, "busy", "another detail"), true},
		{New(Unavailable, "other", ""), false},
		{New(Denied, "busy", ""), false},
		{errors.New("disk full"), false},
	} {
		if errors.Is(wrapped, c.target) != c.is {
			t.Errorf("Is(%v) = %t", c.target, !c.is)
		}
	}
	if From(wrapped) != p || CodeOf(wrapped) != "busy" {
		t.Error("the problem is not found in the chain")
	}
	if From(cause) != nil || CodeOf(cause) != "" || From(nil) != nil || CodeOf(nil) != "" {
		t.Error("a problem is found in a plain error")
	}
}

func TestRefusal(t *testing.T) {
	for _, k := range []Kind{Invalid, Unauthenticated, Denied, StepUp, NotFound, Conflict, Throttled} {
		if !Refusal(New(k, "x", "")) {
			t.Errorf("%s says something of what was asked", k)
		}
	}
	for name, err := range map[string]error{
		"nothing": nil, "a plain error": errors.New("x"), "a passing fault": New(Unavailable, "busy", ""),
		"one because of a refusal": New(Unavailable, "busy", "").Because(New(NotFound, "x", "")),
	} {
		if Refusal(err) {
			t.Errorf("%s is no refusal", name)
		}
	}
}

func TestKinds(t *testing.T) {
	kinds := []Kind{Invalid, Unauthenticated, Denied, StepUp, NotFound, Conflict, Throttled, Unavailable}
	for i, k := range kinds {
		for j, other := range kinds {
			if errors.Is(New(k, "c", ""), other) != (i == j) {
				t.Errorf("%s is %s", k, other)
			}
		}
	}
}
