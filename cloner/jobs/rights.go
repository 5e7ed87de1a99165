package jobs

// What people may do. Each right is one function, asked by whoever is about to do something, with what is true then.
//
// Nobody, the zero User, may do nothing. Where a database may lead is for dsn.HostPolicy to say.

// Operator is who runs Calco's commands where its state database is: an admin who is no user, and has and sees no databases.
func Operator() User { return User{Role: RoleAdmin} }

// MayRead tells whether somebody may look at jobs, whoever has started them: a link to one is for the whole team. What a
// job's databases are called is told with it.
func MayRead(u User) bool { return u.ID != 0 || u.Admin() }

// MayAct tells whether somebody may cancel a job, reconnect it, have it go on or try it again: its owner and admins. What
// goes on or is tried again uses the databases of the job, which its owner or the admin must see too.
func MayAct(u User, t Task) bool { return owns(u, t.UserID) || u.Admin() }

// MaySave tells whether somebody may save databases, and test them before: every user.
func MaySave(u User) bool { return u.ID != 0 }

// MaySee tells whether somebody may look at a saved database, test it, and clone from or into it: its owner, and everybody
// where it is shared.
func MaySee(u User, c Connection) bool { return u.ID != 0 && c.Shared || owns(u, c.OwnerID) }

// MayChange tells whether somebody may change or remove a saved database: its owner, and admins where they see it.
func MayChange(u User, c Connection) bool { return owns(u, c.OwnerID) || u.Admin() && MaySee(u, c) }

// MayUnprotect tells whether somebody may take the protection from a database, or leave one of production without it.
func MayUnprotect(u User) bool { return u.Admin() }

// MayManageUsers tells whether somebody may see who the users are, and invite and remove them.
func MayManageUsers(u User) bool { return u.Admin() }

// owns tells whether a thing is somebody's. What has no owner any more, with an id of 0, is nobody's.
func owns(u User, ownerID int64) bool { return u.ID != 0 && u.ID == ownerID }
