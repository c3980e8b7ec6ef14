"""`TwitterAPI`: posts, comments, and who follows whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, need, tool

_NONE: list[str] = []
"""A default that nothing changes."""


@dataclass(kw_only=True)
class TwitterAPI(SimulatedApi):
    """One account, whose owner must log in to post. Tweets have integer IDs, also where a scenario writes strings.

    Comments keep the keys of the scenario: those of a JSON file are strings, so that nobody can see the comments
    that were there before the episode. The public simulator does the same, and the expected results rely on it.
    """

    username: str = "john"
    password: str = "john123"
    authenticated: bool = False
    tweets: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[Any, list[dict[str, str]]] = field(default_factory=dict)
    retweets: dict[str, list[int]] = field(default_factory=dict)
    following_list: list[str] = field(default_factory=lambda: ["alice", "bob"])
    tweet_counter: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tweets = {int(key): tweet for key, tweet in self.tweets.items()}

    def _log_in_for(self, deed: str) -> None:
        need(self.authenticated, f"User not authenticated. Please authenticate before {deed}.")

    def _tweet(self, tweet_id: int) -> dict[str, Any]:
        need(tweet_id in self.tweets, f"Tweet with ID {tweet_id} not found.")
        return self.tweets[tweet_id]

    @tool
    def authenticate_twitter(self, username: str, password: str) -> dict[str, Any]:
        """Log in with user name and password."""
        fits = username == self.username and password == self.password
        self.authenticated = self.authenticated or fits
        return {"authentication_status": fits}

    @tool
    def posting_get_login_status(self) -> dict[str, Any]:
        """Whether the user of the account is logged in."""
        return {"login_status": bool(self.authenticated)}

    @tool
    def post_tweet(self, content: str, tags: list[str] = _NONE, mentions: list[str] = _NONE) -> dict[str, Any]:
        """Post a tweet. Tags start with #, mentions with @."""
        self._log_in_for("posting")
        tweet = {
            "id": self.tweet_counter,
            "username": self.username,
            "content": content,
            "tags": list(tags),
            "mentions": list(mentions),
        }
        self.tweets[self.tweet_counter] = tweet
        self.tweet_counter += 1
        return tweet

    @tool
    def retweet(self, tweet_id: int) -> dict[str, Any]:
        """Retweet a tweet."""
        self._log_in_for("retweeting")
        self._tweet(tweet_id)
        mine = self.retweets.setdefault(self.username, [])
        if tweet_id in mine:
            return {"retweet_status": "Already retweeted"}
        mine.append(tweet_id)
        return {"retweet_status": "Successfully retweeted"}

    @tool
    def comment(self, tweet_id: int, comment_content: str) -> dict[str, Any]:
        """Comment on a tweet."""
        self._log_in_for("commenting")
        self._tweet(tweet_id)
        self.comments.setdefault(tweet_id, []).append({"username": self.username, "content": comment_content})
        return {"comment_status": "Comment added successfully"}

    @tool
    def mention(self, tweet_id: int, mentioned_usernames: list[str]) -> dict[str, Any]:
        """Mention more users in a tweet that is there."""
        self._tweet(tweet_id)["mentions"].extend(mentioned_usernames)
        return {"mention_status": "Users mentioned successfully"}

    @tool
    def follow_user(self, username_to_follow: str) -> dict[str, Any]:
        """Follow a user."""
        self._log_in_for("following")
        new = username_to_follow not in self.following_list
        if new:
            self.following_list.append(username_to_follow)
        return {"follow_status": new}

    @tool
    def list_all_following(self) -> dict[str, Any]:
        """The users that the user of the account follows."""
        self._log_in_for("listing following")
        return {"following_list": self.following_list}

    @tool
    def unfollow_user(self, username_to_unfollow: str) -> dict[str, Any]:
        """Stop following a user."""
        self._log_in_for("unfollowing")
        known = username_to_unfollow in self.following_list
        if known:
            self.following_list.remove(username_to_unfollow)
        return {"unfollow_status": known}

    @tool
    def get_tweet(self, tweet_id: int) -> dict[str, Any]:
        """A tweet by its ID."""
        return self._tweet(tweet_id)

    @tool
    def get_user_tweets(self, username: str) -> list[dict[str, Any]]:
        """All tweets of a user."""
        return [tweet for tweet in self.tweets.values() if tweet["username"] == username]

    @tool
    def search_tweets(self, keyword: str) -> list[dict[str, Any]]:
        """Tweets with a keyword in their text, or as a tag, in any case."""
        word = keyword.lower()
        return [
            tweet
            for tweet in self.tweets.values()
            if word in tweet["content"].lower() or word in [tag.lower() for tag in tweet["tags"]]
        ]

    @tool
    def get_tweet_comments(self, tweet_id: int) -> list[dict[str, str]]:
        """The comments on a tweet."""
        self._tweet(tweet_id)
        return self.comments.get(tweet_id, [])

    @tool
    def get_user_stats(self, username: str) -> dict[str, Any]:
        """How many tweets and retweets a user has made, and how many users he follows."""
        return {
            "tweet_count": len(self.get_user_tweets(username)),
            "following_count": len(self.following_list) if username == self.username else 0,
            "retweet_count": len(self.retweets.get(username, [])),
        }
