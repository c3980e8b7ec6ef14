"""`TradingBot`: a brokerage account with orders, a watchlist and a closed little market."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rfenvs.envs.bfcl_apis.base import SimulatedApi, hidden, need, tool

_NOW = datetime(2024, 9, 1, 10, 30)
_DAY_S = 86400
_SYMBOLS = {
    "Apple": "AAPL", "Google": "GOOG", "Tesla": "TSLA", "Microsoft": "MSFT", "Nvidia": "NVDA", "Zeta Corp": "ZETA",
    "Alpha Tech": "ALPH", "Omega Industries": "OMEG", "Quasar Ltd.": "QUAS", "Neptune Systems": "NEPT",
    "Synex Solutions": "SYNX", "Amazon": "AMZN", "Gorilla": "GORI",
}  # fmt: skip
_SECTORS = {"Technology": ["AAPL", "GOOG", "MSFT", "NVDA"], "Automobile": ["TSLA", "F", "GM"]}
_COLUMNS = ("price", "percent_change", "volume", "MA(5)", "MA(20)")
_MARKET = {
    "AAPL": (227.16, 0.17, 2.552, 227.11, 227.09),
    "GOOG": (2840.34, 0.24, 1.123, 2835.67, 2842.15),
    "TSLA": (667.92, -0.12, 1.654, 671.15, 668.20),
    "MSFT": (310.23, 0.09, 3.234, 309.88, 310.11),
    "NVDA": (220.34, 0.34, 1.234, 220.45, 220.67),
    "ALPH": (1320.45, -0.08, 1.567, 1321.12, 1325.78),
    "OMEG": (457.23, 0.12, 2.345, 456.78, 458.12),
    "QUAS": (725.89, -0.03, 1.789, 726.45, 728.00),
    "NEPT": (88.34, 0.19, 0.654, 88.21, 88.67),
    "SYNX": (345.67, 0.11, 2.112, 345.34, 346.12),
    "ZETA": (22.09, -0.05, 0.789, 22.12, 22.34),
}


def _order(number: int, kind: str, symbol: str, price: float, amount: int, status: str) -> dict[str, Any]:
    return {"id": number, "order_type": kind, "symbol": symbol, "price": price, "amount": amount, "status": status}


def _orders() -> dict[Any, dict[str, Any]]:
    return {
        12345: _order(12345, "Buy", "AAPL", 210.65, 10, "Completed"),
        12446: _order(12446, "Sell", "GOOG", 2840.56, 5, "Pending"),
    }


def _account() -> dict[str, Any]:
    return {"account_id": 12345, "balance": 10000.0, "binding_card": 1974202140965533}


def _stocks() -> dict[str, dict[str, Any]]:
    return {symbol: dict(zip(_COLUMNS, values, strict=True)) for symbol, values in _MARKET.items()}


@dataclass(kw_only=True)
class TradingBot(SimulatedApi):
    """Orders stay open and move no money; deposits and withdrawals get a random time of the next day."""

    orders: dict[Any, dict[str, Any]] = field(default_factory=_orders)
    account_info: dict[str, Any] = field(default_factory=_account)
    authenticated: bool = False
    market_status: str = "Closed"
    order_counter: int = 12446
    stocks: dict[str, dict[str, Any]] = field(default_factory=_stocks)
    watch_list: list[str] = field(default_factory=lambda: ["NVDA"])
    transaction_history: list[dict[str, Any]] = field(default_factory=list)
    random_seed: int = hidden(1053520)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.orders = {int(k) if isinstance(k, str) and k.isdecimal() else k: v for k, v in self.orders.items()}

    def _log_in_to(self, deed: str) -> None:
        need(self.authenticated, f"User not authenticated. Please log in to {deed}.")

    def _transact(self, kind: str, amount: float, change: float) -> Any:
        time = _NOW + timedelta(seconds=self._random.randint(0, _DAY_S))
        self.account_info["balance"] += change
        self.transaction_history.append({"type": kind, "amount": amount, "timestamp": f"{time:%Y-%m-%d %H:%M:%S}"})
        return self.account_info["balance"]

    @tool
    def get_current_time(self) -> dict[str, Any]:
        """The time of day, as HH:MM AM or PM."""
        return {"current_time": f"{_NOW:%I:%M %p}"}

    @tool
    def get_symbol_by_name(self, name: str) -> dict[str, Any]:
        """Stock symbol of a company."""
        return {"symbol": _SYMBOLS.get(name, "Stock not found")}

    @tool
    def get_stock_info(self, symbol: str) -> dict[str, Any]:
        """Price, change, volume and moving averages of a stock."""
        need(symbol in self.stocks, f"Stock with symbol '{symbol}' not found.")
        return self.stocks[symbol]

    @tool
    def get_order_details(self, order_id: int) -> dict[str, Any]:
        """An order by its ID."""
        known = list(self.orders)
        need(order_id in self.orders, f"Order with ID {order_id} not found.Here is the list of orders_id: {known}")
        return self.orders[order_id]

    @tool
    def cancel_order(self, order_id: int) -> dict[str, Any]:
        """Cancel an order that is not completed."""
        need(order_id in self.orders, f"Order with ID {order_id} not found.")
        order = self.orders[order_id]
        need(order["status"] != "Completed", f"Can't cancel order {order_id}. Order is already completed.")
        order["status"] = "Cancelled"
        return {"order_id": order_id, "status": "Cancelled"}

    @tool
    def place_order(self, order_type: str, symbol: str, price: float, amount: int) -> dict[str, Any]:
        """Place an order of type Buy or Sell for a number of shares at a price."""
        self._log_in_to("place an order")
        need(symbol in self.stocks, f"Invalid stock symbol: {symbol}")
        need(price > 0 and amount > 0, "Price and amount must be positive values.")
        if order_type.lower() == "buy":
            cost, balance = float(price) * amount, self.account_info.get("balance", 0)
            need(cost <= balance, f"Insufficient funds: required ${cost:.2f} but only ${balance:.2f} available.")
        number = self.order_counter
        self.orders[number] = _order(number, order_type, symbol, float(price), amount, "Open")
        self.order_counter += 1
        # The answer says "Pending", and whoever asks for the order again is told "Open".
        return {
            "order_id": number,
            "order_type": order_type,
            "status": "Pending",
            "price": float(price),
            "amount": amount,
        }

    @tool
    def withdraw_funds(self, amount: float) -> dict[str, Any]:
        """Withdraw money from the account, while the market is open."""
        self._log_in_to("make a transaction")
        need(self.market_status == "Open", "Market is closed. Transactions are not allowed.")
        need(amount > 0, "Transaction amount must be positive.")
        need(amount <= self.account_info["balance"], "Insufficient funds for withdrawal.")
        return {"status": "Withdrawal successful", "new_balance": self._transact("withdrawal", amount, -amount)}

    @tool
    def get_account_info(self) -> dict[str, Any]:
        """Account number, balance and card of the account."""
        self._log_in_to("view account information")
        return self.account_info

    @tool
    def trading_login(self, username: str, password: str) -> dict[str, Any]:
        """Log in to the trading system."""
        if self.authenticated:
            return {"status": "Already logged in"}
        self.authenticated = True
        return {"status": "Logged in successfully"}

    @tool
    def trading_get_login_status(self) -> dict[str, Any]:
        """Whether a user is logged in to the trading system."""
        return {"status": bool(self.authenticated)}

    @tool
    def trading_logout(self) -> dict[str, Any]:
        """Log out of the trading system."""
        if not self.authenticated:
            return {"status": "No user is currently logged in"}
        self.authenticated = False
        return {"status": "Logged out successfully"}

    @tool
    def fund_account(self, amount: float) -> dict[str, Any]:
        """Pay money into the account."""
        self._log_in_to("fund the account")
        need(amount > 0, "Funding amount must be positive.")
        return {"status": "Account funded successfully", "new_balance": self._transact("deposit", amount, amount)}

    @tool
    def remove_stock_from_watchlist(self, symbol: str) -> dict[str, Any]:
        """Take a stock off the watchlist."""
        self._log_in_to("modify the watchlist")
        need(symbol in self.watch_list, f"Stock {symbol} not found in watchlist.")
        self.watch_list.remove(symbol)
        return {"status": f"Stock {symbol} removed from watchlist successfully."}

    @tool
    def get_watchlist(self) -> Any:
        """The symbols on the watchlist."""
        if not self.authenticated:
            return ["Error: User not authenticated. Please log in to view the watchlist."]
        return {"watchlist": self.watch_list}

    @tool
    def get_order_history(self) -> Any:
        """The IDs of all orders."""
        if not self.authenticated:
            return [{"error": "User not authenticated. Please log in to view order history."}]
        return {"history": list(self.orders)}

    @tool
    def get_transaction_history(self, start_date: str | None = None, end_date: str | None = None) -> Any:
        """Deposits and withdrawals, all or those between two dates written YYYY-MM-DD."""
        if not self.authenticated:
            return [{"error": "User not authenticated. Please log in to view transaction history."}]
        start = datetime.strptime(start_date, "%Y-%m-%d") if start_date else datetime.min
        end = datetime.strptime(end_date, "%Y-%m-%d") if end_date else datetime.max
        times = [datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S") for entry in self.transaction_history]
        found = [entry for entry, time in zip(self.transaction_history, times, strict=True) if start <= time <= end]
        return {"transaction_history": found}

    @tool
    def get_available_stocks(self, sector: str) -> dict[str, Any]:
        """The symbols of a sector: Technology or Automobile."""
        return {"stock_list": _SECTORS.get(sector, [])}

    @tool
    def filter_stocks_by_price(self, stocks: list[str], min_price: float, max_price: float) -> dict[str, Any]:
        """Those of some stocks whose price lies between two bounds."""
        prices = {symbol: self.stocks.get(symbol, {}).get("price", 0) for symbol in stocks}
        return {"filtered_stocks": [symbol for symbol in stocks if min_price <= prices[symbol] <= max_price]}

    @tool
    def add_to_watchlist(self, stock: str) -> dict[str, Any]:
        """Put a stock on the watchlist; one that the market does not know is ignored."""
        if stock in self.stocks and stock not in self.watch_list:
            self.watch_list.append(stock)
        return {"watchlist": self.watch_list}

    @tool
    def notify_price_change(self, stocks: list[str], threshold: float) -> dict[str, Any]:
        """Which of some stocks have changed by at least so many per cent."""
        known = [symbol for symbol in stocks if symbol in self.stocks]
        changed = [symbol for symbol in known if abs(self.stocks[symbol]["percent_change"]) >= threshold]
        if not changed:
            return {"notification": "No significant price changes in the selected stocks."}
        return {"notification": f"Stocks {', '.join(changed)} have significant price changes."}
