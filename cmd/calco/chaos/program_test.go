package chaos

// webArgs are how the web process is run: it works no jobs itself.
func webArgs(state string) []string {
	return []string{"serve", "--listen", "127.0.0.1:0", "--database-url", state, "--workers", "0"}
}

// workerArgs are how a worker is run. Its parts are small, so that tables have several.
func workerArgs(state string) []string {
	return []string{"worker", "--database-url", state, "--workers", "2", "--part-size", "1MB", "--give-up-after", "5m"}
}
