package view

// The paths of sections that the frame of a page links to. Everything else a
// page links to or posts to comes in its struct.
const (
	PathHome     = "/account"          // overview and check-up
	PathPasskeys = "/account/passkeys" // passkeys and methods
	PathSessions = "/account/sessions" // sessions and devices
	PathActivity = "/account/activity"
	PathEmail    = "/account/email"
	PathSignIn   = "/signin"
	PathSignOut  = "/signout"
	PathPeople   = "/admin/people"
	PathAudit    = "/admin/audit"
)

type section struct {
	path, text string
	admin      bool
}

var sections = []section{
	{PathHome, "Overview", false},
	{PathPasskeys, "Passkeys", false},
	{PathSessions, "Sessions", false},
	{PathActivity, "Activity", false},
	{PathEmail, "E-mail", false},
	{PathPeople, "People", true},
	{PathAudit, "Audit log", true},
}

func sectionsOf(u *User) []section {
	var out []section
	for _, s := range sections {
		if !s.admin || u.Admin {
			out = append(out, s)
		}
	}
	return out
}
