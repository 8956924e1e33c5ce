package portal_test

import "testing"

// TestSharedBrowser: a browser that two people use is nobody's own. Whoever ends
// it ends their own sessions in it, without being an administrator, and nobody
// else's.
func TestSharedBrowser(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dana, sam := r.browser(), r.browser()
	dana.setUp()
	link := dana.invite("Sam", "", "")
	g := r.grant("dana@example.com")
	dana.post("/signout/here").sent(t, "/")
	sam.client = dana.client // the same cookies: Sam sits down at Dana's machine
	sam.accept(link, "Sam", "sam").to(t)
	own := r.grant("sam")
	device := sam.ending("dev_")
	if r.device(own.Session) != r.device(g.Session) {
		t.Fatal("the browser is not the same device for both")
	}
	sam.get(device).shows(t, 200, "End everything on “Firefox on Linux”?")
	sam.post("/account/end", "id", idOf(device)).sent(t, "/signed-out")
	if r.live(own.ID) {
		t.Error("Sam's access survived the end of Sam's sessions there")
	}
	if !r.live(g.ID) || !r.live(g.Session) {
		t.Error("Sam ended what Dana has there")
	}
}

// device is the browser of a session.
func (r *rig) device(ses string) string {
	r.t.Helper()
	s, err := r.store.Session(r.t.Context(), ses)
	check(r.t, err)
	return s.Device
}
