//go:build !unix

package objects

import "os"

func tryLock(*os.File) (bool, error) { return true, nil }
