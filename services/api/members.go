package api

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/atlas-platform/atlas/internal/account"
	"github.com/atlas-platform/atlas/internal/event"
	"github.com/atlas-platform/atlas/internal/postgres/db"
	"github.com/atlas-platform/atlas/services/api/gen"
)

var errLastOwner = conflict("last-owner", "a collection keeps at least one owner: make somebody else owner first, or delete the collection")

// ListMembers implements gen.StrictServerInterface.
func (s *server) ListMembers(ctx context.Context, request gen.ListMembersRequestObject) (gen.ListMembersResponseObject, error) {
	from, err := s.resume(request.Params.Cursor, position{}, "members", request.ID)
	if err != nil {
		return nil, err
	}
	if _, err := getCollection(ctx, s.queries, request.ID); err != nil {
		return nil, err
	}
	size := pageSize(request.Params.Limit)
	rows, err := s.queries.ListMembers(ctx, request.ID, from.ID, size+1)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	rows, more := cut(rows, size)
	out := gen.ListMembers200JSONResponse{Items: make([]gen.Member, len(rows))}
	for i, row := range rows {
		out.Items[i] = memberBody(db.GetMemberRow(row))
	}
	if more {
		out.NextCursor, err = s.next(ctx, position{ID: rows[len(rows)-1].UserID}, "members", request.ID)
	}
	return out, err
}

// AddMember implements gen.StrictServerInterface.
func (s *server) AddMember(ctx context.Context, request gen.AddMemberRequestObject) (gen.AddMemberResponseObject, error) {
	return writeOnce(ctx, s, request.Params.IdempotencyKey, request, gen.AddMemberResponseObject.VisitAddMemberResponse,
		func(q *db.Queries) (gen.AddMemberResponseObject, error) {
			if _, err := lockCollection(ctx, q, request.ID, gen.Owner); err != nil {
				return nil, err
			}
			user, err := findAccount(ctx, q, request.Body.Email)
			if err != nil {
				return nil, err
			}
			at := s.now()
			added, err := addMember(ctx, q, request.ID, user.ID, request.Body.Role, at)
			if err != nil {
				return nil, err
			}
			if !added {
				return nil, conflict("already-member", "this user is a member already: PATCH the membership to change the role")
			}
			return gen.AddMember201JSONResponse{
				UserID: user.ID, CollectionID: request.ID, Email: user.Email, DisplayName: user.DisplayName, Role: request.Body.Role,
				CreatedAt: at, UpdatedAt: at,
			}, nil
		})
}

// findAccount finds who can become a member. The e-mail is a field of the request's body.
func findAccount(ctx context.Context, q *db.Queries, email string) (db.User, error) {
	user, err := q.GetUserByEmail(ctx, account.NormalizeEmail(email))
	if missing(err) || (err == nil && user.DisabledAt != nil) {
		return user, unprocessable(pointed("/email", "is not the e-mail of an account"))
	}
	if err != nil {
		return user, fmt.Errorf("look up the account: %w", err)
	}
	return user, nil
}

// addMember makes the user a member; added is false when there is a membership already. Only after lockCollection, as changeRole.
func addMember(ctx context.Context, q *db.Queries, collection, user uuid.UUID, role gen.Role, at time.Time) (added bool, err error) {
	id, err := newID()
	if err != nil {
		return false, err
	}
	rows, err := q.AddMember(ctx, db.AddMemberParams{ID: id, CollectionID: collection, UserID: user, Role: string(role), CreatedAt: at})
	if err != nil {
		return false, fmt.Errorf("add the member: %w", err)
	}
	if rows == 0 {
		return false, nil
	}
	return true, emit(ctx, q, event.MembershipAdded, membershipEntity(id, collection), at, event.MembershipData{
		MembershipID: id, CollectionID: collection, UserID: user, EntityVersion: 1, Role: string(role),
	})
}

// changeRole gives the member another role, unless it is the one that the member has.
func changeRole(ctx context.Context, q *db.Queries, member *db.GetMemberRow, role gen.Role, at time.Time) (err error) {
	previous := member.Role
	if previous == string(role) {
		return nil
	}
	member.Role, member.UpdatedAt = string(role), at
	if member.Version, err = q.UpdateMemberRole(ctx, member.Role, member.UpdatedAt, member.ID); err != nil {
		return fmt.Errorf("change the role: %w", err)
	}
	return emit(ctx, q, event.MembershipRoleChanged, membershipEntity(member.ID, member.CollectionID), at, event.MembershipData{
		MembershipID: member.ID, CollectionID: member.CollectionID, UserID: member.UserID, EntityVersion: member.Version, Role: member.Role,
		PreviousRole: &previous,
	})
}

// UpdateMember implements gen.StrictServerInterface.
func (s *server) UpdateMember(ctx context.Context, request gen.UpdateMemberRequestObject) (gen.UpdateMemberResponseObject, error) {
	patch := request.JSONBody
	if patch == nil {
		patch = request.ApplicationMergePatchPlusJSONBody
	}
	var member db.GetMemberRow
	err := s.write(ctx, func(q *db.Queries) (err error) {
		if _, err := lockCollection(ctx, q, request.ID, gen.Owner); err != nil {
			return err
		}
		if member, err = getMember(ctx, q, request.ID, request.UserID); err != nil {
			return err
		}
		if member.Role == string(patch.Role) {
			return nil
		}
		if err := keepOwner(ctx, q, member); err != nil {
			return err
		}
		return changeRole(ctx, q, &member, patch.Role, s.now())
	})
	if err != nil {
		return nil, err
	}
	return gen.UpdateMember200JSONResponse(memberBody(member)), nil
}

// RemoveMember implements gen.StrictServerInterface. Everybody may leave; only owners may remove somebody else.
func (s *server) RemoveMember(ctx context.Context, request gen.RemoveMemberRequestObject) (gen.RemoveMemberResponseObject, error) {
	need := gen.Owner
	if request.UserID == caller(ctx).id() {
		need = ""
	}
	err := s.write(ctx, func(q *db.Queries) error {
		if _, err := lockCollection(ctx, q, request.ID, need); err != nil {
			return err
		}
		member, err := getMember(ctx, q, request.ID, request.UserID)
		if err != nil {
			return err
		}
		if err := keepOwner(ctx, q, member); err != nil {
			return err
		}
		version, err := q.RemoveMember(ctx, member.ID)
		if err != nil {
			return fmt.Errorf("remove the member: %w", err)
		}
		return emit(ctx, q, event.MembershipRemoved, membershipEntity(member.ID, request.ID), s.now(), event.MembershipData{
			MembershipID: member.ID, CollectionID: request.ID, UserID: member.UserID, EntityVersion: version, Role: member.Role,
		})
	})
	if err != nil {
		return nil, err
	}
	return gen.RemoveMember204Response{}, nil
}

func getMember(ctx context.Context, q *db.Queries, collection, user uuid.UUID) (db.GetMemberRow, error) {
	member, err := q.GetMember(ctx, collection, user)
	if missing(err) {
		return member, notFound("this user is not a member of the collection")
	}
	if err != nil {
		return member, fmt.Errorf("read the membership: %w", err)
	}
	return member, nil
}

// keepOwner refuses to take the last owner's role away. The collection is locked, so nobody else can do so at the same time.
func keepOwner(ctx context.Context, q *db.Queries, member db.GetMemberRow) error {
	if member.Role != string(gen.Owner) {
		return nil
	}
	others, err := q.CountOtherOwners(ctx, member.CollectionID, member.UserID)
	if err != nil {
		return fmt.Errorf("count the owners: %w", err)
	}
	if others == 0 {
		return errLastOwner
	}
	return nil
}

func memberBody(row db.GetMemberRow) gen.Member {
	return gen.Member{
		UserID: row.UserID, CollectionID: row.CollectionID, Email: row.Email, DisplayName: row.DisplayName, Role: gen.Role(row.Role),
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}
