package views

import "strconv"

// explained are the statuses that have texts of their own.
var explained = map[int]bool{403: true, 404: true, 405: true, 408: true, 409: true, 410: true, 413: true, 422: true, 429: true}

// ErrorTitle is the id of the title of the error page of a status.
func ErrorTitle(status int) string { return "error." + explanation(status) + ".title" }

func errorText(status int) string { return "error." + explanation(status) + ".text" }

func explanation(status int) string {
	switch {
	case explained[status]:
		return strconv.Itoa(status)
	case status < 500:
		return "400"
	}
	return "500"
}
